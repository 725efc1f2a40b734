// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// newPair makes a connection over loopback; the client's descriptor is its own.
func newPair(t *testing.T) (client *os.File, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if client, err = c.(*net.TCPConn).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, server
}

func TestReadSocketReportsOptionsOfASocket(t *testing.T) {
	client, server := newPair(t)
	fd := int(client.Fd())
	s, err := ReadSocket(os.Getpid(), fd)
	if err != nil {
		t.Fatal(err)
	}
	if s.Local.String() != server.RemoteAddr().String() || s.Remote.String() != server.LocalAddr().String() ||
		!s.Connected ||
		s.NetNSCookie == 0 || s.TCPState != established || s.RcvLowat != 1 || s.PeekOff != -1 ||
		s.ZeroCopy || s.Inq || s.Stamps || s.Filter || s.Repair || s.MPTCP || s.ULP != "" {
		t.Errorf("a plain socket: %+v", s)
	}
	accept := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}}
	for _, err := range []error{
		unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 9),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 3),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 1),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: 1, Filter: &accept[0]}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s, err = ReadSocket(os.Getpid(), fd); err != nil {
		t.Fatal(err)
	}
	if !s.NonBlocking || s.RcvLowat != 9 || !s.ZeroCopy || s.PeekOff != 3 || !s.Stamps || !s.Inq || !s.Filter {
		t.Errorf("all is set: %+v", s)
	}
}

func TestDescriptorsThatAreNoTCPSocket(t *testing.T) {
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	for name, fd := range map[string]int{"file": int(file.Fd()), "UDP": udp} {
		if _, err := ReadSocket(os.Getpid(), fd); !errors.Is(err, ErrNotTCP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadSocket(os.Getpid(), 9999); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such descriptor: %v", err)
	}
}
