// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/slowpage"
)

// One thread sends and waits for the reader's lock, and another ends the stream. As on TCP, the bytes come
// before the end.
func TestASendOnItsWayArrivesAlthoughAnotherThreadEndsTheStream(t *testing.T) {
	for _, accelerated := range []bool{false, true} {
		d, g := load(t, defaults), newGroup(t)
		if accelerated {
			g.attach(t, d)
		}
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 10, 1)
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantEOF(t, client)
		page := slowpage.New(t)
		write(t, client, []byte{1})
		var received <-chan error
		rawConn(t, server).control(t, func(fd int) (err error) {
			received, err = page.Receive(fd)
			return err
		})
		want := pattern(make([]byte, 1000), 2)
		sent := make(chan error, 1)
		held, _ := fixture.SleepsOrReturns(t, unix.SYS_WRITE, func() {
			_, err := client.Write(want)
			sent <- err
		})
		if held != accelerated {
			t.Fatalf("the send waits for the reader's lock: %v, accelerated: %v", held, accelerated)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		// The backlog of a socket cannot be read while a call holds its lock.
		fixture.Elapse(50*time.Millisecond, "a softirq of loopback, which puts the FIN into the reader's backlog")
		if err := errors.Join(page.GoOn(), <-received, <-sent); err != nil {
			t.Fatal(err)
		}
		receive(t, server, want)
		wantEOF(t, server)
		client.Close()
		server.Close()
		// The call into the page had a descriptor of its own.
		eventually(t, "the sockhash is empty", func() bool { return socketsIn(t, d) == 0 })
	}
}

// sendMany sends small messages on fd until an error, and returns how many bytes were taken, and whether the
// error came before over.
func sendMany(fd int, over *atomic.Bool) (taken int, tooEarly error) {
	b := make([]byte, 64)
	for {
		was := over.Load()
		n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			taken += n
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			fixture.Elapse(50*time.Microsecond, "the pace of a sender whose buffer is full")
		case !was && !over.Load():
			return taken, err
		default:
			return taken, nil
		}
	}
}

func TestBytesThatManyThreadsSendUntilShutdownArrive(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	const threads, rounds = 4, 100
	var redirected uint64
	for round := range rounds {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 10, 1)
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantEOF(t, client)
		taken, err := sendUntilTheEnd(t, client, threads, time.Duration(round)*10*time.Microsecond, server)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		redirected += taken
		client.Close()
		server.Close()
	}
	eventually(t, "the sockhash is empty", func() bool { return socketsIn(t, d) == 0 })
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if got := all[unregistered].RedirectedBytes; got == 0 || redirected == 0 {
		t.Errorf("%d bytes redirected, so this test shows nothing", got)
	}
}

// sendUntilTheEnd lets threads send until the stream is ended after a while, and expects that each byte that
// was taken is read.
func sendUntilTheEnd(t *testing.T, client *net.TCPConn, threads int, after time.Duration,
	server *net.TCPConn) (uint64, error) {
	t.Helper()
	var over atomic.Bool
	var taken atomic.Uint64
	var senders sync.WaitGroup
	failed := make(chan error, threads)
	rawConn(t, client).control(t, func(fd int) error {
		for range threads {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			senders.Go(func() {
				defer unix.Close(dup)
				n, err := sendMany(dup, &over)
				taken.Add(uint64(n))
				if err != nil {
					failed <- err
				}
			})
		}
		return nil
	})
	time.AfterFunc(after, func() { over.Store(true); client.CloseWrite() })
	deadline(t, server)
	read, err := io.Copy(io.Discard, struct{ io.Reader }{server})
	senders.Wait()
	// Bytes that a thread sends while another ends the stream may come after the end, but they come.
	late, lateErr := io.Copy(io.Discard, struct{ io.Reader }{server})
	err = errors.Join(err, lateErr)
	select {
	case early := <-failed:
		err = errors.Join(err, early)
	default:
	}
	if err == nil && uint64(read+late) != taken.Load() {
		t.Errorf("%d bytes were taken, %d were read, and %d after the end", taken.Load(), read, late)
	}
	return taken.Load(), err
}
