// SPDX-License-Identifier: Apache-2.0
// peer.js serve|get
const http = require("http"), fs = require("fs"), crypto = require("crypto");
const { DIR, SERVER, PORT, N } = process.env;

if (process.argv[2] === "serve") {
  const body = fs.readFileSync(DIR + "/body");
  http.createServer((request, response) => response.end(body)).listen(PORT, "0.0.0.0");
} else {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let left = Number(N);
  const get = () => http.get({ host: SERVER, port: PORT, path: "/body", agent }, (response) => {
    const sum = crypto.createHash("sha256");
    response.on("data", (piece) => sum.update(piece));
    response.on("end", () => {
      console.log(sum.digest("hex"));
      if (--left > 0) setImmediate(get); else agent.destroy();
    });
  });
  get();
}
