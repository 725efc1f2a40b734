// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// blockingFile is the socket of c as C programs have it: it blocks, and nothing of Go waits for it.
func blockingFile(t *testing.T, c *net.TCPConn) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	f.Fd() // it is a blocking one from now on
	return f
}

// readUnderSignals reads one byte on a thread that gets a signal with SA_RESTART (Go's own, of preemption)
// every few milliseconds. The byte is sent after many signals if none of them has ended the call.
func readUnderSignals(t *testing.T, f *os.File, from net.Conn) (signals int, err error) {
	t.Helper()
	const most = 100
	threads, results := make(chan int), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		threads <- unix.Gettid()
		n, err := unix.Read(int(f.Fd()), make([]byte, 1))
		if err == nil && n != 1 {
			err = errors.New("end of file")
		}
		results <- err
	}()
	thread := <-threads
	for signals = range most {
		select {
		case err := <-results:
			return signals, err
		case <-time.After(5 * time.Millisecond):
		}
		if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	return most, fixture.Receive(t, "the byte is read", results)
}

// The hazard eagain is severe because ordinary programs meet it, and never on plain TCP.
func TestASignalEndsABlockingReceiveWithoutTheGuard(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if signals, err := readUnderSignals(t, blockingFile(t, server), client); err != nil {
		t.Errorf("plain TCP: after %d signals: %v", signals, err)
	}
	g.attach(t, d)
	client, server = g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 10, 1)
	if signals, err := readUnderSignals(t, blockingFile(t, server), client); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("redirected: after %d signals: %v, want EAGAIN", signals, err)
	}
}

// A port whose programs block is avoided after the first of them.
func TestBlockingReceivesGoOnWithTheGuard(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	for i := range 2 {
		var client, server *net.TCPConn
		g.in(t, func() {
			client = dial(t, "tcp4", l.Addr().String())
			server = accept(t, l)
		})
		f := blockingFile(t, server)
		for range 3 { // the next request acknowledges the answer: a packet comes when the guard knows the reader
			exchangeBlocking(t, client, f)
		}
		signals, err := readUnderSignals(t, f, client)
		if cfg.Blocking && err != nil || !cfg.Blocking && !errors.Is(err, unix.EAGAIN) {
			t.Errorf("connection %d: after %d signals: %v; the guard blocking runs: %v", i+1, signals, err,
				cfg.Blocking)
		}
		client.Close()
		server.Close()
	}
}

// exchangeBlocking sends a byte to f and another back.
func exchangeBlocking(t *testing.T, client net.Conn, f *os.File) {
	t.Helper()
	deadline(t, client)
	b := make([]byte, 1)
	if _, err := client.Write(b); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(int(f.Fd()), b); n != 1 {
		t.Fatalf("read a byte: %d, %v", n, err)
	}
	if _, err := unix.Write(int(f.Fd()), b); err != nil {
		t.Fatal(err)
	}
	receive(t, client, b)
}
