// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// EndKey is the key of one end in the sockhash: it names one end of a connection by both initial sequence
// numbers. The other end's key is the mirror image.
type EndKey struct{ Own, Peer uint32 }

// Mirror is the key of the other end.
func (k EndKey) Mirror() EndKey { return EndKey{k.Peer, k.Own} }

// Flow is one live socket of a connection that is or may become accelerated. It counts what the socket sent.
type Flow struct {
	Key                EndKey         `json:"-"`
	Local              netip.AddrPort `json:"local"`
	Remote             netip.AddrPort `json:"remote"`
	Role               Role           `json:"role"`
	Mode               Mode           `json:"mode"`
	Reason             Reason         `json:"reason,omitempty"`
	Joined             bool           `json:"joined"`         // the other end is here too
	Left               bool           `json:"left,omitempty"` // out of the sockhash for good: plain TCP
	RedirectedBytes    uint64         `json:"redirectedBytes"`
	RedirectedMessages uint64         `json:"redirectedMessages"`
	TCPBytes           uint64         `json:"tcpBytes"`
	TCPMessages        uint64         `json:"tcpMessages"`
	BacklogBytes       uint32         `json:"backlogBytes"`     // not yet read, as the kernel charges it
	BacklogHigh        uint32         `json:"backlogHighBytes"` // the most that waited for the peer
	State              uint8          `json:"tcpState"`
	Age                time.Duration  `json:"ageNanoseconds"`
	NetNSCookie        uint64         `json:"netnsCookie"`
	PeerNetNSCookie    uint64         `json:"peerNetnsCookie,omitempty"`
	SocketCookie       uint64         `json:"socketCookie,omitempty"`
	// Which ends were registered when the programs last asked the policies. An end that is not registered any
	// more was deleted, and permits nothing.
	Known     bool `json:"-"`
	PeerKnown bool `json:"-"`
	ends      bpf.SockmapEndFlag
	window    uint8 // how often it has grown
}

// over reports whether the connection has ended. The socket stays in the sockhash until it is closed, because
// redirected bytes wait in it.
func (f *Flow) over() bool { return f.State == unix.BPF_TCP_CLOSE }

func readFlows(r io.Reader, yield func(Flow) bool) error {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	var rec bpf.SockmapFlowRecord
	buf := make([]byte, unsafe.Sizeof(rec))
	for {
		_, err := io.ReadFull(r, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read flows iterator: %w", err)
		}
		if _, err := binary.Decode(buf, binary.NativeEndian, &rec); err != nil {
			return fmt.Errorf("decode flow: %w", err)
		}
		if !yield(decodeFlow(&rec, ts.Nano())) {
			return nil
		}
	}
}

// Now returns how its bytes travel: ModeLeft if it has left the sockhash, or Mode.
func (f *Flow) Now() Mode {
	if f.Left {
		return ModeLeft
	}
	return f.Mode
}

func decodeFlow(r *bpf.SockmapFlowRecord, now int64) Flow {
	return Flow{
		Key:                EndKey{r.Self.Own, r.Self.Peer},
		Local:              addrPort(r.Family, r.LocalAddr, r.LocalPort),
		Remote:             addrPort(r.Family, r.RemoteAddr, r.RemotePort),
		Role:               Role(r.Role),
		Mode:               Mode(r.Mode),
		Reason:             Reason(r.Reason),
		Joined:             r.Joined != 0,
		Left:               r.Left != 0,
		RedirectedBytes:    r.RedirectedBytes,
		RedirectedMessages: r.RedirectedMessages,
		TCPBytes:           r.TcpBytes,
		TCPMessages:        r.TcpMessages,
		BacklogBytes:       r.BacklogBytes,
		BacklogHigh:        r.BacklogHigh,
		State:              r.State,
		Age:                time.Duration(now - int64(r.EstablishedNs)),
		NetNSCookie:        r.Netns,
		PeerNetNSCookie:    r.PeerNetns,
		SocketCookie:       r.Cookie,
		Known:              r.Ends&uint8(bpf.SockmapEndFlagEND_OWN) != 0,
		PeerKnown:          r.Ends&uint8(bpf.SockmapEndFlagEND_PEER) != 0,
		ends:               bpf.SockmapEndFlag(r.Ends),
		window:             r.Window,
	}
}

// addrPort shows v4-mapped addresses as the v4 addresses that they stand for.
func addrPort(family uint16, addr [16]byte, port uint16) netip.AddrPort {
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), port)
}

// CountSockets counts the entries of the sockhash. Some may be counted twice if others are removed meanwhile.
func (d *Datapath) CountSockets() (int, error) {
	m, err := d.mapOf(bpf.SockmapMapSockets, 8)
	if err != nil {
		return 0, err
	}
	return countKeys(m, int(m.MaxEntries()))
}
