// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// below is a cgroup in another.
func below(t testing.TB) (parent, child *group) {
	parent = newGroup(t)
	return parent, groupBelow(t, parent.dir.Name())
}

func rearm(t testing.TB, d *Datapath, g *group) (at uint64) {
	t.Helper()
	at, err := d.Rearm(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// placings are the places of another component's program, relative to ours.
var placings = []struct {
	name   string
	attach func(t testing.TB, d *Datapath, f foreign, parent, child *group, ours bool)
}{
	{"above ours", func(t testing.TB, d *Datapath, f foreign, parent, child *group, ours bool) {
		f.attach(t, parent.dir)
		if ours {
			child.attach(t, d)
		}
	}},
	{"before ours", func(t testing.TB, d *Datapath, f foreign, _, child *group, ours bool) {
		f.attach(t, child.dir)
		if ours {
			child.attach(t, d)
		}
	}},
	{"after ours", func(t testing.TB, d *Datapath, f foreign, _, child *group, ours bool) {
		if ours {
			child.attach(t, d)
		}
		f.attach(t, child.dir)
	}},
}

const exchanges = 50

func pingPong(t testing.TB, client, server *net.TCPConn) {
	t.Helper()
	for i := range uint64(exchanges) {
		send(t, client, server, 10, i)
		send(t, server, client, 10, i)
	}
}

// wantAsMany compares counts of callbacks for each exchange. A late acknowledgement may cost one or two.
func wantAsMany(t testing.TB, with, without uint64) {
	t.Helper()
	if without < exchanges*9/10 {
		t.Fatalf("the other program saw %d callbacks of %d exchanges without us: this test shows nothing", without,
			exchanges)
	}
	if with < without*9/10 {
		t.Errorf("the other program saw %d RTT callbacks, %d without us", with, without)
	}
}

func TestForeignProgramsGetCallbacksOfOffNodeSockets(t *testing.T) {
	d := load(t, defaults)
	for _, placing := range placings {
		for _, beside := range []bool{true, false} {
			t.Run(placing.name+map[bool]string{true: ", set beside others'", false: ", set absolutely"}[beside],
				func(t *testing.T) {
					seen := func(ours bool) uint64 {
						parent, child := below(t)
						f := foreignProgram(t, flagRTT, beside)
						placing.attach(t, d, f, parent, child, ours)
						if ours {
							rearm(t, d, child)
						}
						outside := listen(t, "tcp4", "127.0.0.1:0")
						var client *net.TCPConn
						child.in(t, func() { client = dial(t, "tcp4", outside.Addr().String()) })
						pingPong(t, client, accept(t, outside))
						wantNoSockets(t, d)
						return f.rtts(t)
					}
					without := seen(false)
					wantAsMany(t, seen(true), without)
				})
		}
	}
}

func TestForeignProgramsGetCallbacksOfOurSockets(t *testing.T) {
	d := load(t, defaults)
	for _, placing := range placings {
		t.Run(placing.name, func(t *testing.T) {
			seen := func(ours bool) uint64 {
				parent, child := below(t)
				f := foreignProgram(t, flagRTT, true)
				placing.attach(t, d, f, parent, child, ours)
				if ours {
					rearm(t, d, child)
				}
				client, server := child.pair(t, "tcp4", "127.0.0.1:0")
				if f, ok := flowOf(t, d, client); ok != ours || ok && !f.Joined {
					t.Fatalf("ours %v: flow %+v", ours, f)
				}
				if err := d.SetDisabled(true); err != nil { // redirected bytes have no round trip
					t.Fatal(err)
				}
				defer d.SetDisabled(false)
				pingPong(t, client, server)
				return f.rtts(t)
			}
			without := seen(false)
			wantAsMany(t, seen(true), without)
		})
	}
}

// A program above ours that sets its own flags only, as many do.
func TestOffNodeSocketLeavesUnderAProgramThatSetsFlagsAbsolutely(t *testing.T) {
	d := load(t, defaults)
	for i, flags := range []int32{flagState, 0} {
		for j, speaksFirst := range []bool{true, false} {
			parent, child := below(t)
			foreignProgram(t, flags, false).attach(t, parent.dir)
			child.attach(t, d)
			if at := rearm(t, d, child); at != parent.id {
				t.Fatalf("rearmed at cgroup %d, want %d", at, parent.id)
			}
			outside := listen(t, "tcp4", "127.0.0.1:0")
			var client *net.TCPConn
			child.in(t, func() { client = dial(t, "tcp4", outside.Addr().String()) })
			server := accept(t, outside)
			if !speaksFirst {
				send(t, client, server, 10, 1)
			}
			if _, err := server.Write(make([]byte, 30)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the socket has left", func() bool { return socketsIn(t, d) == 0 })
			rawConn(t, client).control(t, func(fd int) error {
				eventually(t, "all 30 bytes wait", func() bool { return bytesWaiting(t, fd) == 30 })
				return nil
			})
			wantFlows(t, d, RoleActive, ResultRemote, uint64(2*i+j+1))
			client.Close()
			wantEvents(t, d, EventFlagsLost, 0)
		}
	}
}

func wantEvents(t testing.TB, d *Datapath, e Event, want uint64) {
	t.Helper()
	all, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	if all[e] != want {
		t.Errorf("event %d counted %d times, want %d", e, all[e], want)
	}
}

func TestClearedCallbackFlagsAreCounted(t *testing.T) {
	parent, child := below(t)
	d := load(t, defaults)
	child.attach(t, d)
	foreignProgram(t, flagState, false).attach(t, parent.dir) // nobody has looked since
	outside := listen(t, "tcp4", "127.0.0.1:0")
	var client *net.TCPConn
	child.in(t, func() { client = dial(t, "tcp4", outside.Addr().String()) })
	send(t, client, accept(t, outside), 10, 1)
	client.Close()
	eventually(t, "the loss is counted", func() bool {
		all, err := d.Events()
		if err != nil {
			t.Fatal(err)
		}
		return all[EventFlagsLost] == 1
	})
}

// Without window scaling the kernel takes every packet on its fast path from the first, and a client that
// only receives gets no RTT sample.
func TestClientWithoutWindowScalingLeaves(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	ns.Sysctl(t, "ipv4/tcp_window_scaling", "0")
	g.attach(t, d)
	var outside net.Listener
	ns.Do(func() { outside = listen(t, "tcp4", "127.0.0.1:0") })
	var client *net.TCPConn
	g.in(t, func() { ns.Do(func() { client = dial(t, "tcp4", outside.Addr().String()) }) })
	server := accept(t, outside)
	if n := socketsIn(t, d); n != 1 {
		t.Fatalf("%d sockets in the sockhash before the server has said anything, want 1", n)
	}
	if _, err := server.Write(make([]byte, 30)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket has left", func() bool { return socketsIn(t, d) == 0 })
	rawConn(t, client).control(t, func(fd int) error {
		eventually(t, "all 30 bytes wait", func() bool { return bytesWaiting(t, fd) == 30 })
		return nil
	})
	wantFlows(t, d, RoleActive, ResultRemote, 1)
}

func TestRearmComesLastAgain(t *testing.T) {
	parent, child := below(t)
	d := load(t, defaults)
	child.attach(t, d)
	if at := rearm(t, d, child); at != 0 {
		t.Errorf("rearmed at %d with nobody else there", at)
	}
	first := foreignProgram(t, flagState, false).attach(t, child.dir)
	if at := rearm(t, d, child); at != child.id {
		t.Errorf("rearmed at %d, want %d", at, child.id)
	}
	second := foreignProgram(t, flagState, false).attach(t, parent.dir)
	for range 2 {
		if at := rearm(t, d, child); at != parent.id {
			t.Errorf("rearmed at %d, want %d", at, parent.id)
		}
	}
	foreignProgram(t, flagState, false).attach(t, parent.dir)
	if v := must(d.view(child.dir)); v.rearmed || len(v.neighbours) != 3 || !v.neighbours[0].After {
		t.Errorf("a third program is not seen: %+v", v)
	}
	rearm(t, d, child)
	if v := must(d.view(child.dir)); !v.rearmed || v.rearmID != parent.id {
		t.Errorf("nothing of ours comes last: %+v", v)
	}
	if err := d.KeepRearmed(map[uint64]bool{parent.id: true}); err != nil {
		t.Fatal(err)
	}
	if left := must(d.RearmLinks()); len(left) != 1 || left[0] != parent.id {
		t.Errorf("rearmed are %v, want %d", left, parent.id)
	}
	first()
	second()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestOwnerOfASockhash(t *testing.T) {
	parent, child := below(t)
	d := load(t, defaults)
	if err := d.Yields(child.dir); err != nil {
		t.Fatal(err)
	}
	f := foreignProgram(t, flagState, true, bpftest.Sockhash(t))
	f.attach(t, parent.dir)
	foreignProgram(t, flagState, true).attach(t, parent.dir)
	err := d.Yields(child.dir)
	var neighbour *NeighbourError
	if !errors.Is(err, ErrNeighbour) || !errors.As(err, &neighbour) {
		t.Fatalf("error %v, want a NeighbourError", err)
	}
	if neighbour.Sockmap != "their_socks" || neighbour.Name != "somebodys" || neighbour.CgroupID != parent.id {
		t.Errorf("the owner is %+v", neighbour.Neighbour)
	}
	for _, part := range []string{"somebodys", "their_socks", `"coexist": "share"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if err := d.update(func(c *bpf.SockmapConfig) {
		c.Coexist = uint32(bpf.SockmapCoexistCOEXIST_SHARE)
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.Yields(child.dir); err != nil {
		t.Errorf("shared: %v", err)
	}
}

// The kernel would silently replace the program of another component.
func TestProgramThatOursWouldDisplace(t *testing.T) {
	parent, child := below(t)
	d := load(t, defaults)
	// A cgroup below may have another program in its place.
	bpftest.AttachAlone(t, foreignProgram(t, 0, true).Program, parent.dir.Name(), unix.BPF_F_ALLOW_OVERRIDE)
	if err := d.Yields(child.dir); !errors.Is(err, ErrNeighbour) ||
		!strings.Contains(err.Error(), "BPF_F_ALLOW_OVERRIDE") {
		t.Errorf("error %v, want an ErrNeighbour", err)
	}
}

func TestRearmThatCannotBeAttached(t *testing.T) {
	parent, child := below(t)
	d := load(t, defaults)
	child.attach(t, d)
	for range 64 { // all that a cgroup holds
		foreignProgram(t, 0, true).attach(t, parent.dir)
	}
	if at, err := d.Rearm(child.dir); !errors.Is(err, ErrNeighbour) {
		t.Errorf("rearmed at %d, error %v, want an ErrNeighbour", at, err)
	}
}

func TestEndpointUnderAForeignProgramStaysOnTCP(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	for _, foreign := range []bool{true, false} {
		if changed, err := d.SetForeign(p.Cookie, foreign); !changed || err != nil {
			t.Fatalf("changed %v, error %v", changed, err)
		}
		client, server := p.connect(t, 8080)
		send(t, client, server, 10, 1)
		if _, ok := flowOf(t, d, client); ok == foreign {
			t.Errorf("foreign %v, accelerated %v", foreign, ok)
		}
		client.Close()
		server.Close()
	}
	wantFlows(t, d, RoleActive, ResultForeign, 1)
	wantFlows(t, d, RolePassive, ResultForeign, 1)
	if changed, err := d.SetForeign(1, true); changed || err != nil {
		t.Errorf("of nobody: changed %v, error %v", changed, err)
	}
}

// What coexist "share" means: the first program to insert a socket keeps it, and no byte is lost.
func TestShareIsFirstComeFirstServed(t *testing.T) {
	d := load(t, defaults)
	for _, oursFirst := range []bool{true, false} {
		g := newGroup(t)
		f, answers := takingProgram(t)
		if oursFirst {
			g.attach(t, d)
		}
		f.attach(t, g.dir)
		if !oursFirst {
			g.attach(t, d)
		}
		rearm(t, d, g)
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, 10<<10, 1)
		send(t, server, client, 10<<10, 2)
		var answer int64
		if err := answers.Lookup(uint32(0), &answer); err != nil {
			t.Fatal(err)
		}
		c, accelerated := flowOf(t, d, client)
		if accelerated != oursFirst || (answer == 0) == oursFirst || accelerated && c.RedirectedBytes != 10<<10 {
			t.Errorf("ours first %v: accelerated %v, the other's insert answered %d\n%+v", oursFirst, accelerated,
				answer, c)
		}
		want := ResultJoined
		if !oursFirst {
			want = ResultError
		}
		wantFlows(t, d, RoleActive, want, 1)
	}
}
