// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func init() {
	shared := btf.NewCache() // tests that load run one at a time
	newTypes = func() *btf.Cache { return shared }
}

// defaults are settings without the observers: with them a direction first waits for its reader, and most
// tests are about what comes after that.
var defaults = Settings{
	MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "test",
	WithoutGuards: []string{GuardObserve},
}

// guarded are settings with all guards that the kernel takes.
var guarded = Settings{MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "test"}

// newStateDir is fixture.StateDir.
func newStateDir(t testing.TB) string { t.Helper(); return fixture.StateDir(t) }

func load(t testing.TB, s Settings) *Datapath {
	t.Helper()
	dir := newStateDir(t)
	d, err := Load(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unload(dir, false); err != nil {
			t.Error(err)
		}
		d.Close()
	})
	return d
}

// openState opens the state in a directory until the test ends.
func openState(t testing.TB, dir string) *Datapath {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// group is a cgroup of the test's own. Membership is of the whole process, so tests that use it run one at a
// time.
type group struct {
	dir *os.File
	id  uint64
	mu  sync.Mutex
}

func newGroup(t testing.TB) *group {
	t.Helper()
	return groupBelow(t, cgroupMount(t))
}

func groupBelow(t testing.TB, parent string) *group {
	t.Helper()
	path, id := fixture.Cgroup(t, parent)
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &group{dir: dir, id: id}
}

func cgroupMount(t testing.TB) string { t.Helper(); return fixture.CgroupMount(t) }

// in runs f while this process is in the group: sockets that f makes belong to it for life.
func (g *group) in(t testing.TB, f func()) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	move(t, g.dir.Name())
	defer move(t, cgroupMount(t))
	f()
}

func move(t testing.TB, cgroup string) {
	t.Helper()
	procs := filepath.Join(cgroup, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		t.Fatal(err)
	}
}

func (g *group) attach(t testing.TB, d *Datapath) LinkKey {
	t.Helper()
	key := LinkKey{CgroupID: g.id, Manual: true}
	if _, err := d.Attach(g.dir, key); err != nil {
		t.Fatal(err)
	}
	return key
}

// pair connects two TCP sockets of the group over loopback.
func (g *group) pair(t testing.TB, network, address string) (client, server *net.TCPConn) {
	t.Helper()
	var l net.Listener
	g.in(t, func() { l = listen(t, network, address) })
	defer l.Close()
	g.in(t, func() { client = dial(t, network, l.Addr().String()) })
	return client, accept(t, l)
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t testing.TB, network, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func accept(t testing.TB, l net.Listener) *net.TCPConn { t.Helper(); return fixture.Accept(t, l) }

// flowOf finds the socket of c in the live flows; ok is false when it is not among them.
func flowOf(t testing.TB, d *Datapath, c net.Conn) (found Flow, ok bool) {
	t.Helper()
	local, remote := c.LocalAddr().String(), c.RemoteAddr().String()
	err := d.Flows(func(f Flow) bool {
		if f.Local.String() == local && f.Remote.String() == remote {
			found, ok = f, true
		}
		return !ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, ok
}

func bounded(maxSockets, maxBytes, maxMessages uint32) Settings {
	s := defaults
	s.MaxSockets, s.MaxBacklogBytes, s.MaxBacklogMessages = maxSockets, maxBytes, maxMessages
	return s
}
