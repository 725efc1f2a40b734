// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// conn makes a Go connection of a socket and takes ownership of it.
func conn(t *T, s *Sock) *net.TCPConn {
	s.Endless() // Go has deadlines of its own
	f := os.NewFile(uintptr(s.Release()), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	t.Check(err, "make connection")
	t.Cleanup(func() { c.Close() })
	t.Check(c.SetDeadline(time.Now().Add(t.Scaled(3*time.Second))), "set deadline")
	return c.(*net.TCPConn)
}

// said returns the kind of an error that a Go program distinguishes.
func said(err error) string {
	switch {
	case err == nil:
		return "nil"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "blocks until its deadline"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return suite.Errno(sys.Err)
	}
	return err.Error()
}

// gos has cases of Go's package net on the pair.
func gos() []Case {
	return []Case{
		{Name: "go/echo", Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			done := suite.Go(t, func() string {
				_, err := io.Copy(onlyWriter{s}, onlyReader{s})
				s.Close()
				return said(err)
			})
			goEcho(t, c)
			t.See("server", done.Wait())
		}},
		{Name: "go/echo-by-io-copy", Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			done := suite.Go(t, func() string { _, err := io.Copy(s, s); s.Close(); return said(err) })
			goEcho(t, c)
			t.See("server", done.Wait())
		}},
		{Name: "go/io-copy-proxy", Alone: true, Bulk: true, Run: func(t *T) { copyProxy(t, nil) }},
		{Name: "go/header-then-io-copy-proxy", Alone: true, Bulk: true, Run: func(t *T) {
			copyProxy(t, func(in *net.TCPConn) error {
				_, err := io.ReadFull(in, make([]byte, 16))
				return err
			})
		}},
		{Name: "go/io-copy-waits-for-data", Alone: true, Run: copyBeforeData},
		{Name: "go/io-copy-to-discard", Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			n := suite.Go(t, func() string { n, err := io.Copy(io.Discard, s); return fmt.Sprint(n, " ", said(err)) })
			_, err := c.Write(pattern(100_000, 80))
			t.See("write", said(err))
			c.CloseWrite()
			t.See("copy", n.Wait())
		}},
		{Name: "go/read-from-file", Bulk: true, Run: readFromFile},
		{Name: "go/deadline", Idle: idle, Run: func(t *T) {
			s := conn(t, t.S)
			s.SetReadDeadline(time.Now().Add(t.Scaled(50 * time.Millisecond)))
			_, err := s.Read(make([]byte, 16))
			t.See("read", errors.Is(err, os.ErrDeadlineExceeded))
		}},
		{Name: "go/close-wakes-own-reader", Idle: idle, Run: func(t *T) {
			s := conn(t, t.S)
			r := suite.Go(t, func() string { _, err := s.Read(make([]byte, 16)); return said(err) })
			t.See("returned early", r.Done())
			s.Close()
			t.See("read", r.Wait())
		}},
	}
}

// goStreams has cases of what programs build on package net.
func goStreams() []Case {
	return []Case{
		{Name: "go/lines", Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			w := suite.Go(t, func() string {
				b := bufio.NewWriterSize(c, 100)
				for i := range 500 {
					fmt.Fprintf(b, "line %d\n", i)
				}
				err := b.Flush()
				c.CloseWrite()
				return said(err)
			})
			lines, next := bufio.NewScanner(s), 0
			for lines.Scan() && lines.Text() == fmt.Sprintf("line %d", next) {
				next++
			}
			t.See("lines", next)
			t.See("end", said(lines.Err()))
			t.See("write", w.Wait())
		}},
		{Name: "go/buffers", Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			bufs := net.Buffers{pattern(10, 81), pattern(70_000, 82), nil, pattern(3000, 83)}
			w := suite.Go(t, func() string {
				n, err := bufs.WriteTo(c)
				c.CloseWrite()
				return fmt.Sprint(n, " ", said(err))
			})
			got, err := io.ReadAll(onlyReader{s})
			t.Stream("received", got)
			t.See("end", said(err))
			t.See("write", w.Wait())
		}},
		{Name: "go/reset", Idle: idle, Run: func(t *T) {
			c, s := conn(t, t.C), conn(t, t.S)
			t.Check(c.SetLinger(0), "set linger")
			c.Close()
			_, err := s.Read(make([]byte, 16))
			t.See("read", said(err))
			_, err = s.Write([]byte("hello"))
			t.See("write", said(err))
		}},
	}
}

// onlyReader and onlyWriter hide ReadFrom and WriteTo, and with these splice(2).
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func goEcho(t *T, c *net.TCPConn) {
	for _, n := range []int{1, 1000, 50_000} {
		sent := pattern(n, uint64(n))
		w := suite.Go(t, func() string { _, err := c.Write(sent); return said(err) })
		got := make([]byte, n)
		r, err := io.ReadFull(c, got)
		t.Stream("echo", got[:r])
		t.See("read", said(err))
		t.See("write", w.Wait())
		if err != nil {
			break
		}
	}
	t.See("close", said(c.CloseWrite()))
}

// proxied makes the chain client - in and out - server.
func proxied(t *T) (client, in, out, server *net.TCPConn) {
	c, i := t.Connection()
	o, s := t.Connection()
	t.WarmUp(c, i)
	t.WarmUp(o, s)
	return conn(t, c), conn(t, i), conn(t, o), conn(t, s)
}

// copyProxy does what reverse proxies in Go do: io.Copy from connection to connection, which uses splice(2).
func copyProxy(t *T, before func(in *net.TCPConn) error) {
	client, in, out, server := proxied(t)
	sent := pattern(1<<20, 84)
	w := suite.Go(t, func() string {
		if before != nil {
			_, _ = client.Write(make([]byte, 16))
		}
		_, err := client.Write(sent)
		client.CloseWrite()
		return said(err)
	})
	proxy := suite.Go(t, func() string {
		defer out.CloseWrite()
		if before != nil {
			if err := before(in); err != nil {
				return said(err)
			}
		}
		n, err := io.Copy(out, in)
		return fmt.Sprint(n, " ", said(err))
	})
	got, err := io.ReadAll(onlyReader{server})
	t.Stream("received", got)
	t.See("end", said(err))
	t.See("proxy", proxy.Wait())
	in.Close()
	w.Wait()
}

// copyBeforeData has a proxy that is waiting when the first byte comes.
func copyBeforeData(t *T) {
	client, in, out, server := proxied(t)
	proxy := suite.Go(t, func() string {
		n, err := io.Copy(out, in)
		out.CloseWrite()
		return fmt.Sprint(n, " ", said(err))
	})
	t.See("returned early", proxy.Done())
	_, err := client.Write([]byte("hello"))
	t.See("write", said(err))
	got := make([]byte, 5)
	server.SetReadDeadline(time.Now().Add(t.Scaled(time.Second)))
	n, err := io.ReadFull(server, got)
	t.Stream("received", got[:n])
	t.See("read", said(err))
	client.CloseWrite()
	t.See("proxy", proxy.Wait())
}

// readFromFile is sendfile(2).
func readFromFile(t *T) {
	c, s := conn(t, t.C), conn(t, t.S)
	sent := pattern(2<<20, 85)
	path := t.Dir() + "/file"
	t.Check(os.WriteFile(path, sent, 0o600), "write file")
	f, err := os.Open(path)
	t.Check(err, "open file")
	defer f.Close()
	w := suite.Go(t, func() string {
		n, err := c.ReadFrom(f)
		c.CloseWrite()
		return fmt.Sprint(n, " ", said(err))
	})
	got, err := io.ReadAll(onlyReader{s})
	t.Stream("received", got)
	t.See("end", said(err))
	t.See("ReadFrom", w.Wait())
}
