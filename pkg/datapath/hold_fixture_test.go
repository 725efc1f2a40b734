// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// holdHandshake drops SYN-ACKs from port in ns until one was seen, and calls ready with both sequence
// numbers, the client's first, before it lets the retransmission through.
func holdHandshake(t *testing.T, ns *netnstest.NetNS, port uint16,
	ready func(own, peer uint32)) <-chan bpf.SockmapIsnPair {
	t.Helper()
	var sniffer int
	release := func() {}
	ns.Do(func() {
		sniffer = packetSocket(t)
		release = dropSYNACK(t, port)
	})
	held := make(chan bpf.SockmapIsnPair, 1)
	go func() {
		defer unix.Close(sniffer)
		buf := make([]byte, 2048)
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			n, _, err := unix.Recvfrom(sniffer, buf, 0)
			if err != nil {
				continue
			}
			if pair, ok := synAckOf(buf[:n], port); ok {
				ready(pair.Own, pair.Peer)
				release()
				held <- pair
				return
			}
		}
		t.Error("no SYN-ACK seen")
		release()
		close(held)
	}()
	return held
}

func packetSocket(t *testing.T) int {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
	if err != nil {
		t.Error(err)
		return -1
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO,
		&unix.Timeval{Usec: 100_000}); err != nil {
		t.Error(err)
	}
	return fd
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// synAckOf reads the numbers of a SYN-ACK from port out of an IPv4 packet.
func synAckOf(p []byte, port uint16) (pair bpf.SockmapIsnPair, ok bool) {
	const syn, ack = 0x02, 0x10
	if len(p) < 20 || p[9] != unix.IPPROTO_TCP {
		return pair, false
	}
	tcp := p[int(p[0]&0x0f)*4:]
	if len(tcp) < 20 || binary.BigEndian.Uint16(tcp) != port || tcp[13]&(syn|ack) != syn|ack {
		return pair, false
	}
	return bpf.SockmapIsnPair{Own: binary.BigEndian.Uint32(tcp[8:]) - 1, Peer: binary.BigEndian.Uint32(tcp[4:])},
		true
}

// dropSYNACK drops what arrives from port with SYN and ACK in the namespace of this thread (a packet socket
// sees it before), until the returned function is called; that one may be called on any thread.
func dropSYNACK(t *testing.T, port uint16) func() {
	nsFD, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	conn, err := nftables.New(nftables.WithNetNSFd(nsFD), nftables.AsLasting())
	if err != nil {
		t.Error(err)
		return func() {}
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "hold"})
	chain := conn.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x12}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := conn.Flush(); err != nil {
		t.Error(err)
	}
	return func() {
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			t.Error(err)
		}
		conn.CloseLasting()
		unix.Close(nsFD)
	}
}
