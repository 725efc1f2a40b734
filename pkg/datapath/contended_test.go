// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/slowpage"
	"golang.org/x/sys/unix"
)

const (
	contendedFinds    = 4 // as in bpf/contended.h
	contendedMessages = 64
	contendedBytes    = 512
)

// whileHeld sends size bytes while the reader is in the middle of a receive call, and reports whether the
// sender had to wait for it. All is received afterwards.
func whileHeld(t *testing.T, from, to *net.TCPConn, size int) (waited bool) {
	t.Helper()
	return whileHeldDo(t, from, to, size, func() {})
}

// whileHeldDo is whileHeld, and calls a function while the sender waits.
func whileHeldDo(t *testing.T, from, to *net.TCPConn, size int, meanwhile func()) (waited bool) {
	t.Helper()
	page := slowpage.New(t)
	write(t, from, []byte{1})
	var received <-chan error
	rawConn(t, to).control(t, func(fd int) (err error) {
		received, err = page.Receive(fd)
		return err
	})
	want := pattern(make([]byte, size), 7)
	sent := make(chan error, 1)
	waited, _ = fixture.SleepsOrReturns(t, unix.SYS_WRITE, func() {
		_, err := from.Write(want)
		sent <- err
	})
	meanwhile()
	if err := page.GoOn(); err != nil {
		t.Fatal(err)
	}
	for name, done := range map[string]<-chan error{"the held call": received, "the sender": sent} {
		if err := fixture.Receive(t, name+" returns", done); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if page.Byte() != 1 {
		t.Errorf("received %d into the page, want 1", page.Byte())
	}
	receive(t, to, want)
	return waited
}

func write(t *testing.T, c *net.TCPConn, b []byte) {
	t.Helper()
	deadline(t, c)
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// contended makes a pair whose client sends small messages one way and has found the reader's lock held often
// enough.
func contended(t *testing.T, d *Datapath, g *group) (client, server *net.TCPConn) {
	t.Helper()
	client, server = g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 10, 1) // the server has called receive
	for i := range contendedFinds - 1 {
		if !whileHeld(t, client, server, 100) {
			t.Fatalf("find %d: the sender did not wait, so this test shows nothing", i)
		}
	}
	before, _ := flowOf(t, d, client)
	if whileHeld(t, client, server, 100) {
		t.Error("the sender waits for the lock although it was found held often enough")
	}
	after, _ := flowOf(t, d, client)
	if after.Mode != ModeTCP || after.Reason != ReasonContended || after.TCPMessages != before.TCPMessages+1 {
		t.Fatalf("%+v, want one message more over TCP than in %+v", after, before)
	}
	return client, server
}

func TestSmallOneWayMessagesUseTCPWhileTheReaderHoldsItsLock(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := contended(t, d, g)
	before, _ := flowOf(t, d, client)
	send(t, client, server, contendedBytes+1, 1)
	f, _ := flowOf(t, d, client)
	if f.RedirectedMessages != before.RedirectedMessages+1 {
		t.Errorf("a larger message: %+v, want it redirected as before: %+v", f, before)
	}
	for i := range contendedMessages - 1 {
		send(t, client, server, 100, uint64(i))
	}
	if f, _ = flowOf(t, d, client); f.TCPMessages != before.TCPMessages+contendedMessages-1 {
		t.Errorf("%d messages over TCP, want %d", f.TCPMessages, before.TCPMessages+contendedMessages-1)
	}
	tcp := f.TCPMessages
	send(t, client, server, 100, 2)
	if f, _ = flowOf(t, d, client); f.TCPMessages != tcp || f.Mode != ModeRedirect {
		t.Errorf("afterwards: %+v, want redirection", f)
	}
}

func TestSmallMessagesAreRedirectedAgainAfterAReply(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := contended(t, d, g)
	send(t, server, client, 10, 1)
	before, _ := flowOf(t, d, client)
	send(t, client, server, 100, 2)
	if f, _ := flowOf(t, d, client); f.TCPMessages != before.TCPMessages || f.Mode != ModeRedirect {
		t.Errorf("%+v, want redirection", f)
	}
	for i := range contendedFinds - 1 {
		if !whileHeld(t, client, server, 100) {
			t.Errorf("find %d after the answer: over TCP, want them counted again", i)
		}
	}
}
