// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// Both ends of a stream that is slower when redirected leave the sockhash and are plain TCP again. No byte is
// lost meanwhile, and FIONREAD returns the same as on TCP. Redirecting is slower if the ends run on two CPUs.
func TestContendedStreamLeavesForGood(t *testing.T) {
	const size, piece, most = 64 << 10, 32 << 20, 2 << 30
	if runtime.NumCPU() < 2 {
		t.Skip("there is one CPU only")
	}
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	buf := pattern(make([]byte, size), 1)
	left := func() bool {
		one, _ := flowOf(t, d, client)
		other, _ := flowOf(t, d, server)
		return one.Left && other.Left
	}
	for sent := 0; sent < most && !left(); sent += piece {
		written, read := make(chan error, 1), make(chan error, 1)
		go onCPU(0, written, func() error { return writePattern(client, buf, piece) })
		go onCPU(1, read, func() error { return readPattern(server, piece) })
		if err := errors.Join(<-written, <-read); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]*net.TCPConn{"sender": client, "reader": server} {
		f, _ := flowOf(t, d, c)
		if !f.Left {
			t.Errorf("the %s has not left: %+v", name, f)
		}
		t.Logf("%s: %d bytes redirected, %d over TCP", name, f.RedirectedBytes, f.TCPBytes)
	}
	if _, err := client.Write(buf[:1000]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "FIONREAD counts TCP's bytes", func() bool {
		var n int
		rawConn(t, server).control(t, func(fd int) (err error) {
			n, err = unix.IoctlGetInt(fd, 0x541b)
			return err
		})
		return n == 1000
	})
}

// onCPU runs f on a thread of its own, which ends with it.
func onCPU(cpu int, done chan<- error, f func() error) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	err := unix.SchedSetaffinity(0, &set)
	if err == nil {
		err = f()
	}
	done <- err
}

func writePattern(c net.Conn, buf []byte, total int) error {
	for n := 0; n < total; n += len(buf) {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func readPattern(c net.Conn, total int) error {
	want, got := pattern(make([]byte, 64<<10), 1), make([]byte, 64<<10)
	for n := 0; n < total; n += len(got) {
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// Idle flows leave, too, without a message of either end.
func TestIdleFlowsAreEvicted(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 1000, 5)
	send(t, server, client, 1000, 5)
	unread, reader := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, unread, reader, 1000, 5)
	if _, err := unread.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	stay := evictAll(t, d)
	if len(stay) != 1 || stay[Stay(bpf.SockmapStaysSTAYS_UNREAD)] != 1 {
		t.Errorf("sockets stay: %v, want one, which has not read", stay)
	}
	for _, c := range []*net.TCPConn{client, server} {
		if f, _ := flowOf(t, d, c); !f.Left || f.Mode != ModeTCP || f.Reason != ReasonDisabled {
			t.Errorf("has not left, or does not say so: %+v", f)
		}
	}
	receive(t, reader, make([]byte, 100))
	if stay := evictAll(t, d); len(stay) != 0 {
		t.Errorf("sockets stay: %v, want none", stay)
	}
	if n, err := d.CountSockets(); err != nil || n != 0 {
		t.Errorf("%d sockets in the sockhash, %v", n, err)
	}
	send(t, client, server, 1000, 5)
	send(t, server, client, 1000, 5)
	send(t, unread, reader, 1000, 5)
}

// Both ends have to leave while a message is between its verdict and its delivery, because the reader holds
// its lock. The sender does not commit to TCP before the message has arrived.
func TestMessageInFlightArrivesBeforeItsReaderLeaves(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	for range 3 {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 1000, 1)
		send(t, server, client, 1000, 1)
		e, err := d.NewEviction()
		if err != nil {
			t.Fatal(err)
		}
		evicted, behind := make(chan error, 1), pattern(make([]byte, 300), 9)
		waited := whileHeldDo(t, client, server, 1000, func() {
			if err := d.SetDisabled(true); err != nil {
				t.Error(err)
			}
			go func() { _, err := e.Run(); evicted <- err }()
			// It waits for the reader's lock, too. And a change to TCP waits for the reader, a second at
			// most.
			fixture.Elapse(settled, "a second, for which the change waits for the reader")
			// Over TCP: it is in the reader's backlog, and the reader may leave when it acknowledges it. Not by Write,
			// which waits for the other one.
			rawConn(t, client).control(t, func(fd int) error {
				_, err := unix.Write(fd, behind)
				return err
			})
		})
		if !waited {
			t.Fatal("the sender did not wait, so this test shows nothing")
		}
		receive(t, server, behind)
		if err := errors.Join(<-evicted, e.Close()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*net.TCPConn{client, server} {
			if f, _ := flowOf(t, d, c); !f.Left {
				t.Errorf("has not left in the end: %+v", f)
			}
		}
		send(t, client, server, 1000, 1)
		send(t, server, client, 1000, 1)
		client.Close()
		server.Close()
		if err := d.SetDisabled(false); err != nil {
			t.Fatal(err)
		}
	}
}
