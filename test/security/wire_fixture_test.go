// SPDX-License-Identifier: Apache-2.0

package security

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// wire is a TUN device in a pod: a process with CAP_NET_ADMIN there can act as any machine behind it, and
// write its packets.
type wire struct {
	*testing.T
	tun *os.File
}

// beyond are the addresses of the machines behind wires.
var beyond = netip.MustParsePrefix("198.51.100.0/24")

func newWire(t *testing.T, p *lab.Pod) *wire {
	t.Helper()
	fd := -1
	err := p.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("wire")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		t.Fatalf("tun: %v", err)
	}
	w := &wire{t, os.NewFile(uintptr(fd), "tun")}
	t.Cleanup(func() { w.tun.Close() })
	for _, args := range [][]string{{"link", "set", "wire", "up"},
		{"route", "add", beyond.String(), "dev", "wire"}} {
		if _, err := p.Output(t.Context(), "ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

const (
	flagSYN = 0x02
	flagACK = 0x10
)

// segment is a TCP segment without data.
type segment struct {
	from, to netip.AddrPort
	seq, ack uint32
	flags    byte
}

func (s segment) bytes() []byte {
	p := make([]byte, 40)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], s.from.Addr().AsSlice())
	copy(p[16:], s.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(0, p[:20]))
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, s.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[12], tcp[13] = 5<<4, s.flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	pseudo := uint32(unix.IPPROTO_TCP) + uint32(len(tcp))
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo, p[12:]))
	return p
}

func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func (w *wire) write(s segment) {
	w.Helper()
	if _, err := w.tun.Write(s.bytes()); err != nil {
		w.Fatal(err)
	}
}

// next waits for a segment with these flags.
func (w *wire) next(flags byte) segment {
	w.Helper()
	if err := w.tun.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		w.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := w.tun.Read(buf)
		if err != nil {
			w.Fatalf("no segment with flags %#x: %v", flags, err)
		}
		if s, ok := parseSegment(buf[:n]); ok && s.flags&(flagSYN|flagACK) == flags {
			return s
		}
	}
}

func parseSegment(p []byte) (s segment, ok bool) {
	if len(p) < 40 || p[0] != 0x45 || p[9] != unix.IPPROTO_TCP {
		return s, false
	}
	tcp := p[20:]
	port := func(at int) uint16 { return binary.BigEndian.Uint16(tcp[at:]) }
	return segment{
		from: netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), port(0)),
		to:   netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), port(2)),
		seq:  binary.BigEndian.Uint32(tcp[4:]), ack: binary.BigEndian.Uint32(tcp[8:]), flags: tcp[13],
	}, true
}
