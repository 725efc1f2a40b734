// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

func tcpInfo(t *testing.T, c *net.TCPConn) (info *unix.TCPInfo) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

func TestTCPInfoCountsRedirectedBytes(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	fixture.Elapse(300*time.Millisecond, "the handshake is older than what is sent now")
	const size = 12_345
	began := time.Now()
	send(t, client, server, size, 1)
	if f, _ := flowOf(t, d, client); f.RedirectedBytes != size {
		t.Fatalf("not redirected, so this test shows nothing: %+v", f)
	}
	send(t, server, client, 100, 2) // so that each end knows the other
	c, s := tcpInfo(t, client), tcpInfo(t, server)
	since := uint32(time.Since(began).Milliseconds()) + 50 // the kernel's coarse clock may be some ticks behind
	if c.Bytes_sent != size || c.Bytes_acked < size || c.Data_segs_out == 0 || c.Bytes_received != 100 ||
		c.Last_data_sent > since {
		t.Errorf("client: %+v", c)
	}
	if s.Bytes_received != size || s.Bytes_sent != 100 || s.Data_segs_in == 0 || s.Last_data_recv > since {
		t.Errorf("server: %+v", s)
	}
	// A caller may know an older struct.
	short := make([]byte, 104)
	rawConn(t, client).control(t, func(fd int) error {
		got, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		copy(short, got)
		return err
	})
	if short[0] != 1 {
		t.Errorf("state %d, want ESTABLISHED", short[0])
	}
}
