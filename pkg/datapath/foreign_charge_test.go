// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// charge makes the kernel charge memory to the reader that is not of redirected bytes and that no read
// releases. It returns a function that releases it, nil if there is none.
type charge struct {
	name string
	make func(t *testing.T, d *Datapath, ns *netnstest.NetNS, client, server *net.TCPConn) (end func())
}

var charges = []charge{
	{"nothing", chargeNothing},
	{"the error queue", chargeErrorQueue},
	{"an out-of-order segment", chargeOutOfOrder},
}

func chargeNothing(*testing.T, *Datapath, *netnstest.NetNS, *net.TCPConn, *net.TCPConn) func() {
	return func() {}
}

// chargeErrorQueue lets a byte that the reader sends leave its time stamp in the reader's own error queue. It
// needs no capability.
func chargeErrorQueue(t *testing.T, _ *Datapath, _ *netnstest.NetNS, client, server *net.TCPConn) func() {
	stamps := func(flags int) {
		rawConn(t, server).control(t, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags)
		})
	}
	stamps(unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_ACK | unix.SOF_TIMESTAMPING_SOFTWARE)
	send(t, server, client, 1, 1)
	stamps(0)
	return func() {
		rawConn(t, server).control(t, func(fd int) error {
			for range 8 {
				if _, _, _, _, err := unix.Recvmsg(fd, make([]byte, 64), make([]byte, 512),
					unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
					return nil
				}
			}
			return nil
		})
	}
}

// chargeOutOfOrder forges a segment of the client that leaves a gap before it. A process with CAP_NET_RAW in
// the pod can do that.
func chargeOutOfOrder(t *testing.T, d *Datapath, ns *netnstest.NetNS, client, server *net.TCPConn) func() {
	f, ok := flowOf(t, d, client)
	if !ok {
		t.Fatal("the client is no flow")
	}
	p := forged(f, 1000, make([]byte, 100))
	ns.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: f.Remote.Addr().As4()}); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// forged is a packet from the sender of f. Its bytes begin this far after the last byte that f has sent over
// TCP.
func forged(f Flow, gap uint32, data []byte) []byte {
	p := make([]byte, 40, 40+len(data))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	copy(p[12:], f.Local.Addr().AsSlice())
	copy(p[16:], f.Remote.Addr().AsSlice())
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, f.Local.Port())
	binary.BigEndian.PutUint16(tcp[2:], f.Remote.Port())
	binary.BigEndian.PutUint32(tcp[4:], f.Key.Own+1+uint32(f.TCPBytes)+gap)
	binary.BigEndian.PutUint32(tcp[8:], f.Key.Peer+1)
	tcp[12], tcp[13] = 5<<4, 0x10 // no options; ACK
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	p = append(p, data...)
	sum := onesSum(uint32(unix.IPPROTO_TCP)+uint32(len(p)-20), p[12:])
	binary.BigEndian.PutUint16(p[36:], ^sum)
	return p // the kernel writes length and checksum of the IP header
}

func onesSum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// charged makes a pair in a namespace of its own whose server is charged by c.
func charged(t *testing.T, d *Datapath, c charge) (client, server *net.TCPConn, end func()) {
	t.Helper()
	ns, g := netnstest.New(t), newGroup(t)
	g.attach(t, d)
	ns.Do(func() { client, server = g.pair(t, "tcp4", "127.0.0.1:0") })
	end = c.make(t, d, ns, client, server)
	if c.name != "nothing" {
		eventually(t, "the reader is charged", func() bool { return receiveMemory(t, server) > 0 })
	}
	return client, server, end
}

// However much else is charged to the reader, the bound of messages holds: each message costs a kibibyte that
// is charged to nobody.
func TestMessageBoundHoldsWithForeignCharges(t *testing.T) {
	const maxMessages = 512
	for _, c := range charges {
		t.Run(c.name, func(t *testing.T) {
			d := load(t, bounded(1024, 64<<10, maxMessages))
			client, server, _ := charged(t, d, c)
			if err := server.SetReadBuffer(256 << 10); err != nil {
				t.Fatal(err)
			}
			fill(t, client, 64, 16<<20)
			f, _ := flowOf(t, d, client)
			if f.RedirectedMessages > maxMessages || f.RedirectedMessages < 16 {
				t.Errorf("%d messages were redirected, want at most %d and some: %+v", f.RedirectedMessages, maxMessages,
					f)
			}
		})
	}
}

// A charge that stays must not be counted as messages that wait: the reader has read all of them.
func TestFlowWithAForeignChargeGoesOnBeingRedirected(t *testing.T) {
	const maxMessages, rounds = 64, 4 * 64
	for _, c := range charges {
		t.Run(c.name, func(t *testing.T) {
			d := load(t, bounded(1024, 64<<10, maxMessages))
			client, server, _ := charged(t, d, c)
			for i := range rounds {
				send(t, client, server, 10, uint64(i))
			}
			if f, _ := flowOf(t, d, client); f.RedirectedMessages < rounds-8 || f.Mode != ModeRedirect {
				t.Errorf("of %d messages %d were redirected: %+v", rounds, f.RedirectedMessages, f)
			}
		})
	}
}

func TestFlowIsRedirectedAgainWhenAForeignChargeEnds(t *testing.T) {
	d := load(t, bounded(1024, 64<<10, 64))
	client, server, end := charged(t, d, charge{"the error queue", chargeErrorQueue})
	if err := server.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	taken := fill(t, client, 100, 16<<20)
	end()
	receive(t, server, taken)
	if n := receiveMemory(t, server); n != 0 {
		t.Fatalf("%d bytes are still charged to the reader", n)
	}
	before, _ := flowOf(t, d, client)
	for i := range 200 {
		send(t, client, server, 100, uint64(i))
	}
	if f, _ := flowOf(t, d, client); f.RedirectedMessages < before.RedirectedMessages+190 {
		t.Errorf("of 200 messages %d were redirected: %+v", f.RedirectedMessages-before.RedirectedMessages, f)
	}
}

// waiting sends messages that nobody reads until one is no longer redirected, and reads them all.
func waiting(t *testing.T, d *Datapath, client, server *net.TCPConn, message int) (bytes, messages uint64) {
	t.Helper()
	before, _ := flowOf(t, d, client)
	taken := fill(t, client, message, 64<<20)
	after, _ := flowOf(t, d, client)
	receive(t, server, taken)
	return after.RedirectedBytes - before.RedirectedBytes, after.RedirectedMessages - before.RedirectedMessages
}

// The window of a reader begins small, and grows while the reader keeps up.
func TestWindowGrowsForAReaderThatReads(t *testing.T) {
	const first, messages, bound = 256 << 10, 256, 8 << 20
	most := min(bound, rcvbufLimit(t)/2)
	d, g := load(t, bounded(1024, bound, 4096)), newGroup(t)
	g.attach(t, d)
	for _, size := range []int{64, 1 << 10, 64 << 10} {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		if bytes, n := waiting(t, d, client, server, size); bytes > first || n > messages {
			t.Errorf("%d bytes in %d messages of %d waited for a reader that has never read", bytes, n, size)
		}
		client.Close()
		server.Close()
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	for burst := first * 3 / 4; burst <= most; burst *= 2 {
		want := pattern(make([]byte, burst), 3)
		go func() {
			for at := 0; at < len(want); at += 16 << 10 {
				client.Write(want[at:min(at+16<<10, len(want))])
			}
		}()
		fixture.Elapse(50*time.Millisecond, "a reader that is a little slower than the sender")
		receive(t, server, want)
	}
	if bytes, _ := waiting(t, d, client, server, 64<<10); bytes < uint64(most)/2 || bytes > uint64(most) {
		t.Errorf("%d bytes waited for a reader that had always read, want nearly %d", bytes, most)
	}
}

// rcvbufLimit is how far a receive buffer grows by itself here, in bytes.
func rcvbufLimit(t *testing.T) (most int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_rmem")
	if err != nil {
		t.Fatal(err)
	}
	var ignored int
	if _, err := fmt.Sscan(string(text), &ignored, &ignored, &most); err != nil {
		t.Fatal(err)
	}
	return most
}
