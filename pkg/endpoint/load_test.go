// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func TestLoadAndUnload(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	if unloaded, err := n.Unload(t.Context(), false); unloaded || err != nil {
		t.Errorf("unload of nothing: %v, %v", unloaded, err)
	}
	load(t, n)
	if loaded, err := n.Load(t.Context()); loaded || err != nil {
		t.Errorf("second load: %v, %v", loaded, err)
	}
	mustAdd(t, n, sb, in(g))
	if unloaded, err := n.Unload(t.Context(), false); !unloaded || err != nil {
		t.Errorf("unload: %v, %v", unloaded, err)
	}
	if _, err := os.Stat(n.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unload left the state directory: %v", err)
	}
	if err := n.Check(t.Context(), sb); !errors.Is(err, ErrNotAdded) {
		t.Errorf("check after unload: %v, want ErrNoRecord", err)
	}
	mustDel(t, n, sb)
}

func TestUnloadOfForeignStateNeedsForce(t *testing.T) {
	n := newNode(t)
	mkdir(t, n.Dir, stateName(datapath.ABI+1), "links")
	if _, err := n.Unload(t.Context(), false); !errors.Is(err, datapath.ErrForeignState) {
		t.Errorf("unload: %v, want ErrForeignState", err)
	}
	if unloaded, err := n.Unload(t.Context(), true); !unloaded || err != nil {
		t.Errorf("forced unload: %v, %v", unloaded, err)
	}
}

func TestForcedUnloadStaysOnBPFFS(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := &Node{Dir: dir}
	if _, err := n.Unload(t.Context(), true); !errors.Is(err, datapath.ErrNoBPFFS) {
		t.Errorf("unload: %v, want ErrNoBPFFS", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("unload removed a file: %v", err)
	}
}

func TestReady(t *testing.T) {
	n := newNode(t)
	for _, when := range []string{"not loaded", "loaded"} {
		if err := n.Ready(t.Context()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	foreign := newNode(t)
	mkdir(t, foreign.Dir, stateName(datapath.ABI+1))
	if err := foreign.Ready(t.Context()); !errors.Is(err, datapath.ErrForeignState) {
		t.Errorf("foreign state: %v, want ErrForeignState", err)
	}
	nowhere := &Node{Dir: filepath.Join(t.TempDir(), "sockmap")}
	if err := nowhere.Ready(t.Context()); !errors.Is(err, datapath.ErrNoBPFFS) {
		t.Errorf("no bpffs: %v, want ErrNoBPFFS", err)
	}
	blind := newNode(t)
	blind.Mount = func() (cgroup.Mount, error) { return cgroup.Mount{}, os.ErrPermission }
	if err := blind.Ready(t.Context()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("unreadable mounts: %v, want the reason", err)
	}
}

func TestManuallyAttachedCgroups(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	id, made, err := n.AttachCgroup(t.Context(), g.path)
	if err != nil || !made || id != g.id {
		t.Fatalf("attach: %d, %v, %v; want %d", id, made, err, g.id)
	}
	below := strings.TrimPrefix(g.path, cgroupMount(t).Path)
	if id, made, err := n.AttachCgroup(t.Context(), below); err != nil || made || id != g.id {
		t.Errorf("attach of %q again: %d, %v, %v; want %d", below, id, made, err, g.id)
	}
	manual := datapath.LinkKey{CgroupID: g.id, Manual: true}.String()
	expect(t, n, "after attaching", state{Links: []string{manual}})
	if removed, err := n.Reap(t.Context()); len(removed) != 0 || err != nil {
		t.Errorf("reap removed %v, %v", removed, err)
	}

	// A container in the same cgroup has a link of its own, and neither is removed with the other.
	sb := container(t, "one")
	mustAdd(t, n, sb, in(g))
	if removed, err := n.DetachCgroup(t.Context(), g.id); !removed || err != nil {
		t.Errorf("detach: %v, %v", removed, err)
	}
	expectOnly(t, n, "after detaching", g, sb)
	if removed, err := n.DetachCgroup(t.Context(), g.id); removed || err != nil {
		t.Errorf("detach again: %v, %v", removed, err)
	}
}

func TestReapRemovesManualLinksOfCgroupsThatAreGone(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	if _, _, err := n.AttachCgroup(t.Context(), g.path); err != nil {
		t.Fatal(err)
	}
	removeGroup(t, g.path)
	if removed, err := n.Reap(t.Context()); len(removed) != 1 || err != nil {
		t.Errorf("reap removed %v, %v; want the link", removed, err)
	}
	expect(t, n, "after reap", state{})
}

func TestAttachmentsAndLinksReportWhatIsAlive(t *testing.T) {
	n, g, gone := newNode(t), newGroup(t), newGroup(t)
	if _, err := n.Attachments(t.Context()); !errors.Is(err, datapath.ErrNotLoaded) {
		t.Errorf("records before load: %v, want ErrNotLoaded", err)
	}
	alive, dead := container(t, "alive"), container(t, "dead")
	alive.PodNamespace, alive.PodName = "default", "web-0"
	mustAdd(t, n, alive, in(g))
	mustAdd(t, n, dead, in(gone))
	removeGroup(t, gone.path)

	attachments, err := n.Attachments(t.Context())
	if err != nil || len(attachments) != 2 {
		t.Fatalf("records: %v, %v", attachments, err)
	}
	r := attachments[0]
	if !r.Accelerated() || r.CgroupPath != g.path || r.Dead != "" || r.PodNamespace != "default" ||
		r.PodName != "web-0" {
		t.Errorf("record of the living one: %+v", r)
	}
	if r := attachments[1]; r.Accelerated() || r.LinkAlive || r.CgroupPath != "" || r.Dead == "" {
		t.Errorf("record of the dead one: %+v", r)
	}
	links, err := n.Links(t.Context())
	if err != nil || len(links) != 2 {
		t.Fatalf("links: %v, %v", links, err)
	}
	for _, l := range links {
		if l.Alive != (l.CgroupID == g.id) || l.Attachments != 1 || l.Manual {
			t.Errorf("link %+v", l)
		}
	}
	if err := n.Check(t.Context(), dead); !errors.Is(err, ErrIncomplete) {
		t.Errorf("check of the dead one: %v, want ErrIncomplete", err)
	}
}

func TestCheckLooksAtItsOwnEndpointOnly(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	quickest := func() time.Duration {
		best := patience
		for range 20 {
			start := time.Now()
			if err := n.Check(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	alone := quickest()
	m, err := ebpf.LoadPinnedMap(filepath.Join(n.Dir, stateName(datapath.ABI), "endpoints"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const others = 3000
	for i := range uint64(others) {
		if err := m.Put(1<<40+i, make([]byte, m.ValueSize())); err != nil {
			t.Fatal(err)
		}
	}
	if got := quickest(); got > 10*alone {
		t.Errorf("CHECK takes %v, and %v with %d other endpoints", alone, got, others)
	}
}

func TestCheckFindsWhatIsMissing(t *testing.T) {
	for name, take := range map[string]func(*testing.T, *datapath.Datapath, Sandbox, group){
		"the link": func(t *testing.T, d *datapath.Datapath, _ Sandbox, g group) {
			if err := d.Detach(datapath.LinkKey{CgroupID: g.id}); err != nil {
				t.Fatal(err)
			}
		},
		"the endpoint": func(t *testing.T, d *datapath.Datapath, sb Sandbox, _ group) {
			if err := d.DeleteEndpoint(cookieOf(t, sb.NetNSPath)); err != nil {
				t.Fatal(err)
			}
		},
		"the network namespace": func(t *testing.T, _ *datapath.Datapath, sb Sandbox, _ group) {
			removeNetNS(t, sb.NetNSPath)
			netnstest.Mount(t, sb.NetNSPath)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			mustAdd(t, n, sb, in(g))
			d, err := datapath.Open(n.Dir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			take(t, d, sb, g)
			if err := n.Check(t.Context(), sb); !errors.Is(err, ErrIncomplete) {
				t.Errorf("check: %v, want ErrIncomplete", err)
			}
			mustAdd(t, n, sb, in(g))
			if _, err := n.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectOnly(t, n, "after another ADD", g, sb)
		})
	}
}

func TestManyFirstAddsAtOnce(t *testing.T) {
	const count = 20
	n, g := newNode(t), newGroup(t)
	sandboxes := make([]Sandbox, count)
	for i := range sandboxes {
		sandboxes[i] = container(t, "c"+string(rune('a'+i)))
	}
	loads := make([]bool, count)
	var wg sync.WaitGroup
	for i, sb := range sandboxes {
		wg.Go(func() {
			out, err := n.Add(t.Context(), sb, in(g))
			if err != nil {
				t.Errorf("add %s: %v", sb.ContainerID, err)
			}
			loads[i] = out.Loaded
		})
	}
	wg.Wait()
	var loaded int
	for _, l := range loads {
		if l {
			loaded++
		}
	}
	if loaded != 1 {
		t.Errorf("%d of the ADDs say that they loaded, want 1", loaded)
	}
	expectOnly(t, n, "after all", g, sandboxes...)
}
