// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// changeState changes the state that socket c carries, as a program would.
func changeState(t *testing.T, d *Datapath, c *net.TCPConn,
	change func(*bpf.SockmapSockState)) (state bpf.SockmapSockState) {
	t.Helper()
	states, err := d.mapOf(bpf.SockmapMapStates, unsafe.Sizeof(state))
	if err != nil {
		t.Fatal(err)
	}
	rawConn(t, c).control(t, func(fd int) error {
		if err := states.Lookup(uint32(fd), &state); err != nil {
			return err
		}
		change(&state)
		return states.Update(uint32(fd), &state, ebpf.UpdateExist)
	})
	return state
}

func putSocket(t *testing.T, m *ebpf.Map, key bpf.SockmapIsnPair, c *net.TCPConn) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error { return m.Put(key, uint64(fd)) })
}

func resetBy(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A socket that has left deletes nothing by its key when its connection ends: the key may belong to another
// socket by now.
func TestSocketThatHasLeftDeletesNoOtherSocket(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	send(t, server, client, 100, 2)
	key := changeState(t, d, client, func(s *bpf.SockmapSockState) { s.Left = 1 }).Self
	sockets, err := d.mapOf(bpf.SockmapMapSockets, 8)
	if err != nil {
		t.Fatal(err)
	}
	if err := sockets.Delete(key); err != nil {
		t.Fatal(err)
	}
	// Another socket gets its key, and the socket itself enters another program's sockhash.
	otherClient, _ := newGroup(t).pair(t, "tcp4", "127.0.0.1:0")
	putSocket(t, sockets, key, otherClient)
	foreign, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockHash, KeySize: 8, ValueSize: 8, MaxEntries: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	putSocket(t, foreign, key, client)
	resetBy(t, server)
	eventually(t, "both ends are over", func() bool { return len(d.flowsOf(t)) == 0 })
	if n := socketsIn(t, d); n != 1 {
		t.Errorf("%d sockets in the sockhash, want the other one", n)
	}
}

// Two ends delete their rendezvous only if it is still theirs.
func TestAnEndDeletesOnlyItsOwnRendezvous(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	flows, err := d.mapOf(bpf.SockmapMapFlows, unsafe.Sizeof(bpf.SockmapRendezvous{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []bool{false, true} {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 100, 1)
		send(t, server, client, 100, 2)
		key := changeState(t, d, client, func(*bpf.SockmapSockState) {}).Self
		if other {
			if err := flows.Put(key, &bpf.SockmapRendezvous{ActiveSk: 1, PassiveSk: 2}); err != nil {
				t.Fatal(err)
			}
		}
		resetBy(t, server)
		client.Close()
		eventually(t, "both ends are over", func() bool { return len(d.flowsOf(t)) == 0 })
		var left bpf.SockmapRendezvous
		if err := flows.Lookup(key, &left); (err == nil) != other {
			t.Errorf("another's entry: %v; after the end of both: %+v, %v", other, left, err)
		}
	}
}

// An upgrade brings observers to a flow that was redirected without them. Its reader must not leave, although
// it waits inside calls and is not marked as trusted.
func TestAReaderWithRedirectedBytesStaysWhenTheObserversCome(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 150), 1)
	write(t, server, want[:100])
	if f, _ := flowOf(t, d, server); f.RedirectedBytes != 100 {
		t.Fatalf("not redirected, so this test shows nothing: %+v", f)
	}
	if err := d.update(func(c *bpf.SockmapConfig) { c.Learn = 3 }); err != nil {
		t.Fatal(err)
	}
	changeState(t, d, client, func(s *bpf.SockmapSockState) { s.Reader = 2 })
	setLowWater(t, client, 150) // what comes now uses TCP
	write(t, server, want[100:])
	awaitPacket(t, client, 1)
	receive(t, client, want)
	if f, ok := flowOf(t, d, client); !ok || f.Reason == ReasonBlocking {
		t.Errorf("the reader has left: %+v", f)
	}
}

// awaitPacket waits until TCP has received data.
func awaitPacket(t *testing.T, c *net.TCPConn, segments uint32) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error {
		eventually(t, "a segment has arrived, and is in the receive queue", func() bool {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			return err == nil && info.Rcv_ooopack == 0 && info.Data_segs_in >= segments && queuedMemory(t, fd) > 0
		})
		return nil
	})
}

// What TCP_INFO has counted stays counted, after the socket has left and after the connection has ended.
func TestTCPInfoNeverRunsBackwards(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 5000, 1)
	send(t, server, client, 3000, 2)
	before := tcpInfo(t, client)
	if before.Bytes_sent != 5000 || before.Bytes_received != 3000 {
		t.Fatalf("%+v", before)
	}
	check := func(when string) {
		t.Helper()
		if now := tcpInfo(t, client); now.Bytes_sent < 5000 || now.Bytes_acked < 5000 ||
			now.Bytes_received < 3000 ||
			now.Data_segs_out < before.Data_segs_out {
			t.Errorf("%s: %d bytes sent, %d acknowledged, %d received", when, now.Bytes_sent, now.Bytes_acked,
				now.Bytes_received)
		}
	}
	changeState(t, d, client, func(s *bpf.SockmapSockState) { s.Left = 1 })
	check("after leaving")
	changeState(t, d, client, func(s *bpf.SockmapSockState) { s.Left = 0 })
	resetBy(t, server)
	eventually(t, "the connection is over", func() bool { return len(d.flowsOf(t)) == 0 })
	if now := tcpInfo(t, client); now.Bytes_sent < 5000 {
		t.Errorf("after the end: %d bytes sent", now.Bytes_sent)
	}
}

// The address of an end is written last and read first, each by an instruction that is a full barrier, so
// half an entry is never taken for a whole one. The time between is too short for a test to hit, so this test
// inspects the programs.
func TestRendezvousIsAccessedWithFullBarriers(t *testing.T) {
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	active := int16(unsafe.Offsetof(bpf.SockmapRendezvous{}.ActiveSk))
	passive := int16(unsafe.Offsetof(bpf.SockmapRendezvous{}.PassiveSk))
	for program, want := range map[string]map[asm.AtomicOp][]int16{
		"verdict":      {asm.FetchOr: {active, passive}},
		"sock_ops":     {asm.FetchOr: {active, passive}, asm.Xchg: {active, passive}},
		"sock_ops_any": {asm.FetchOr: {active, passive}, asm.Xchg: {active, passive}},
	} {
		for op, offsets := range want {
			for _, offset := range offsets {
				if !hasAtomic(spec.Programs[program], op, offset) {
					t.Errorf("%s has no %v at offset %d", program, op, offset)
				}
			}
		}
	}
}

func hasAtomic(p *ebpf.ProgramSpec, op asm.AtomicOp, offset int16) bool {
	for _, ins := range p.Instructions {
		if ins.OpCode.AtomicOp() == op && ins.OpCode.Size() == asm.DWord && ins.Offset == offset {
			return true
		}
	}
	return false
}
