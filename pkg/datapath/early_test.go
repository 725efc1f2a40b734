// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// A receive call that began before the handshake ended sleeps, and only bytes over TCP wake it.
func TestReceiveCalledBeforeTheHandshakeGetsTheFirstMessage(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { ns.Do(func() { l = listen(t, "tcp4", "127.0.0.1:7000") }) })
	holdHandshake(t, ns, 7000, func(uint32, uint32) {})
	fd := -1
	g.in(t, func() {
		ns.Do(func() {
			var err error
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
				0); err != nil {
				t.Error(err)
			}
			if err := connectTo7000(fd); err != unix.EINPROGRESS {
				t.Errorf("connect: %v", err)
			}
		})
	})
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	client := make(chan string, 1)
	go func() {
		buf := make([]byte, 100)
		n, err := unix.Read(fd, buf)
		if err != nil {
			n = copy(buf, err.Error())
		}
		client <- string(buf[:n])
	}()
	server := accept(t, l) // the SYN-ACK is sent again after a second
	write(t, server, []byte("greeting"))
	if got := <-client; got != "greeting" {
		t.Fatalf("the call from before the handshake: %q", got)
	}
	f, _ := flowOf(t, d, server)
	if f.Reason != ReasonEarly || f.TCPMessages != 1 {
		t.Errorf("want one message over TCP because of early: %+v", f)
	}
	fixture.Asleep(t, unix.SYS_READ, func() { // in a call that began later
		buf := make([]byte, 100)
		n, _ := unix.Read(fd, buf)
		client <- string(buf[:n])
	})
	write(t, server, []byte("more"))
	if got := <-client; got != "more" {
		t.Errorf("a later call: %q", got)
	}
	if f, _ := flowOf(t, d, server); f.Mode != ModeRedirect || f.RedirectedBytes != 4 {
		t.Errorf("want all but the first message redirected: %+v", f)
	}
	unix.Close(fd)
}

func connectTo7000(fd int) error {
	return unix.Connect(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{127, 0, 0, 1}})
}

// A client that sleeps in epoll_wait is not asleep in a receive call, so the first message and those after it
// are redirected.
func TestTheFirstMessageToAnEventLoopIsRedirected(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, server, client, 100, 1)
	if f, _ := flowOf(t, d, server); f.RedirectedBytes != 100 || f.TCPMessages != 0 {
		t.Errorf("the server's first message: %+v", f)
	}
}
