// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// loadedNodes are state directories with loaded programs, on a bpffs of the test.
func loadedNodes(t *testing.T, count int) (nodes []*endpoint.Node) {
	t.Helper()
	mount := fixture.BPFFS(t)
	for i := range count {
		n := &endpoint.Node{
			Dir:      filepath.Join(mount, fmt.Sprintf("state%d", i)),
			Settings: datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024},
		}
		if _, err := n.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := n.Unload(context.Background(), true); err != nil {
				t.Error(err)
			}
		})
		nodes = append(nodes, n)
	}
	return nodes
}

func isLoaded(t *testing.T, n *endpoint.Node) bool {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	return true
}

// An entry in a list, one in a list that replaces a file, and a drop-in, each with its own directory.
func TestUninstallUnloadsTheStateOfEachEntry(t *testing.T) {
	nodes := loadedNodes(t, 4)
	p := newPlace(t)
	with := func(n *endpoint.Node) Entry {
		e, err := p.Entry.With("bpffsPath", n.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	plain := p.Entry
	for i, file := range []string{"10-list.conflist", "20-single.conf", "30-dropin.conflist"} {
		network := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n%d","plugins":[{"type":"ptp"}]}`, i)
		if i == 1 {
			network = `{"cniVersion":"1.0.0","name":"n1","type":"ptp"}`
		}
		p.write(file, network)
		p.Entry, p.ConfName, p.DropIn = with(nodes[i]), file, i == 2
		if i != 2 {
			p.install()
			continue
		}
		if err := p.writeDropIn(filepath.Join(p.ConfDir, file), filepath.Join(p.ConfDir, "n2", dropInName),
			p.Entry.text); err != nil {
			t.Fatal(err)
		}
	}
	p.Entry, p.ConfName, p.DropIn = plain, "", false
	done, err := p.Uninstall(t.Context(), Removal{
		Node: nodes[3], DrainFor: time.Second,
		NodeAt: func(dir string) Node {
			for _, n := range nodes[:3] {
				if n.Dir == dir {
					return n
				}
			}
			t.Errorf("asked for %s", dir)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if isLoaded(t, n) {
			t.Errorf("%s is still loaded", n.Dir)
		}
	}
	if want := []string{nodes[0].Dir, nodes[1].Dir, nodes[2].Dir}; !done.Unloaded ||
		!slices.Equal(done.UnloadedFrom, want) {
		t.Errorf("it did %+v, want to unload from %q", done, want)
	}
}

// The entry is gone then, so a second call would not find the directory. The error names it.
func TestAnUnloadThatFailsNamesItsDirectory(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	var err error
	if p.Entry, err = p.Entry.With("bpffsPath", "/sys/fs/bpf/elsewhere"); err != nil {
		t.Fatal(err)
	}
	p.install()
	_, err = p.Uninstall(t.Context(), Removal{NodeAt: func(string) Node { return failing{} }})
	if err == nil || !strings.Contains(err.Error(), "sockmapctl --bpffs-path /sys/fs/bpf/elsewhere unload") {
		t.Errorf("%v", err)
	}
}

type failing struct{}

func (failing) Drain(context.Context) (int, error)         { return 0, errors.New("it is stuck") }
func (failing) Unload(context.Context, bool) (bool, error) { return false, nil }
