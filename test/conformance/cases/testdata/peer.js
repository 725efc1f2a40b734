// SPDX-License-Identifier: Apache-2.0
// One end of a connection, as Node programs are written: peer.js MODE ADDRESS PORT [SIZE [BACKEND BACKENDPORT]].
const net = require('net');
const crypto = require('crypto');
const [mode, address, port, size, backend, backendPort] = process.argv.slice(2);
const options = { host: address, port: Number(port), allowHalfOpen: true };

if (mode === 'echo-server') {
  net.createServer({ allowHalfOpen: true }, (c) => c.pipe(c)).listen(options, () => console.log('listening'));
} else if (mode === 'proxy') {
  net.createServer({ allowHalfOpen: true }, (c) => {
    const b = net.connect({ host: backend, port: Number(backendPort), allowHalfOpen: true });
    c.pipe(b);
    b.pipe(c);
  }).listen(options, () => console.log('listening'));
} else {
  const data = Buffer.alloc(Number(size), (_, i) => i);
  for (let i = 0; i < data.length; i++) data[i] = (i * 7 + Math.floor(i / 251)) & 255;
  const hash = crypto.createHash('sha256');
  let n = 0;
  const c = net.connect(options, () => c.end(data));
  c.on('data', (b) => { n += b.length; hash.update(b); });
  c.on('end', () => console.log(n, hash.digest('hex').slice(0, 12)));
  c.on('error', (e) => console.log(e.code));
}
