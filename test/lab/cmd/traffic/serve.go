// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// serve accepts connections until a signal ends the process.
func serve(o options, out io.Writer) error {
	l, sa, err := socket(o.listen)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.listen(sa, o.listen); err != nil {
		return err
	}
	name, err := l.name()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(traffic.Ready{Listen: name}); err != nil {
		return fmt.Errorf("announce address: %w", err)
	}
	// There are as many buffers as connections, and they are reused, because garbage collection is off.
	buffers := make(chan []byte, o.conns)
	for range o.conns {
		buffers <- nil
	}
	for {
		buf := <-buffers
		c, err := l.accept()
		if err != nil {
			return err
		}
		c.noDelay(sa)
		go func() {
			if err := c.handle(&buf); err != nil && !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "traffic:", err)
			}
			c.close()
			buffers <- buf
		}()
	}
}

func (c conn) listen(sa unix.Sockaddr, addr string) error {
	_ = unix.SetsockoptInt(int(c), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(int(c), sa); err != nil {
		return fmt.Errorf("bind to %s: %w", addr, err)
	}
	if err := unix.Listen(int(c), 4096); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return nil
}

func (c conn) handle(buf *[]byte) error {
	var head [traffic.HelloSize]byte
	if err := c.readFull(head[:]); err != nil {
		return err
	}
	h, err := traffic.ParseHello(head[:])
	if err != nil {
		return err
	}
	if cap(*buf) < int(h.Size) {
		*buf = make([]byte, h.Size)
	}
	*buf = (*buf)[:h.Size]
	if h.Mode == traffic.ModeSink {
		return c.sink(h, *buf)
	}
	return c.echo(h, *buf)
}

func (c conn) echo(h traffic.Hello, buf []byte) error {
	p := traffic.NewPattern(h.Seed)
	for {
		if err := c.readFull(buf); err != nil {
			return err // io.EOF when the client is done
		}
		if h.Check {
			if err := p.Check(buf); err != nil {
				return err
			}
		}
		if err := c.writeAll(buf); err != nil {
			return err
		}
	}
}

func (c conn) sink(h traffic.Hello, buf []byte) error {
	p := traffic.NewPattern(h.Seed)
	r := traffic.Receipt{Intact: true}
	var start time.Time
	for {
		n, err := c.read(buf)
		if r.Bytes == 0 {
			start = time.Now()
		}
		r.Bytes += uint64(n)
		if h.Check && r.Intact {
			if err := p.Check(buf[:n]); err != nil {
				fmt.Fprintln(os.Stderr, "traffic:", err)
				r.Intact = false
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	r.Elapsed = time.Since(start)
	return c.writeAll(r.Append(nil))
}
