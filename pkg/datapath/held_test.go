// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func setCork(t testing.TB, c *net.TCPConn, on int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, on) })
}

// wantNothing: no byte has come after a while in which it would have.
func wantNothing(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 16)); n > 0 || err == nil {
		t.Errorf("%d bytes came that are to be held back, %v", n, err)
	}
}

// A program that corks wants its small messages to arrive together.
func TestWhatIsCorkedComesTogether(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	setCork(t, client, 1)
	for _, text := range []string{"head", "body"} {
		if _, err := client.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		wantNothing(t, server)
	}
	if f, _ := flowOf(t, d, client); f.Mode != ModeTCP || f.Reason != ReasonHeld {
		t.Errorf("corked: %+v", f)
	}
	setCork(t, client, 0)
	receive(t, server, []byte("headbody"))
	send(t, client, server, 100, 2)
	setCork(t, client, 1)
	send(t, client, server, 100<<10, 3) // more than a segment: there is nothing to wait for
	setCork(t, client, 0)
	if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect || f.RedirectedBytes < 100<<10 {
		t.Errorf("uncorked, and a large message: %+v", f)
	}
}

func TestMessagesThatSayMoreAreHeldBackWhereObserversRun(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	rawConn(t, client).control(t, func(fd int) error {
		return unix.Sendto(fd, []byte("head"), unix.MSG_MORE|unix.MSG_DONTWAIT, nil)
	})
	if learns(t, d) {
		wantNothing(t, server)
	}
	if _, err := client.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	receive(t, server, []byte("headbody"))
	send(t, client, server, 100, 2)
	if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect {
		t.Errorf("all is read, and nothing more was said: %+v", f)
	}
}
