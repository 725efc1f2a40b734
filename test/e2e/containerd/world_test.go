// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

var dualStack = []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24"),
	netip.MustParsePrefix("fd5c:1f0e:62a0::/64")}

// world is a node with a containerd whose network has sockmap chained after bridge, host-local and portmap.
type world struct {
	*testing.T
	*daemon
	network string
	opened  *datapath.Datapath // after there is a state to open
	shares  []float64          // percent of the bytes that were redirected, of each exchange
}

// newWorld makes a world with keys set in the sockmap entry.
func newWorld(t *testing.T, keys map[string]any) *world {
	t.Helper()
	return newWorldWith(t, func(w *world) { w.writePlugin("exec %s"); w.writeConflist(keys) })
}

// newWorldWith makes a world with another plugin or conflist.
func newWorldWith(t *testing.T, configure func(*world)) *world {
	t.Helper()
	w := &world{T: t}
	t.Cleanup(w.wantNothingLeft) // after the node is closed
	node := labtest.NewNode(t, lab.Options{BinDir: tools.plugins})
	w.network = node.ID()
	w.daemon = prepareDaemon(t, node)
	for _, name := range []string{"bridge", "host-local", "loopback", "portmap"} {
		if err := os.Symlink(filepath.Join(tools.plugins, name), filepath.Join(w.dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	configure(w)
	w.begin(t)
	return w
}

// writePlugin puts a program in sockmap's place that records each call and then runs text; %s in it is the
// path of the real plugin.
func (w *world) writePlugin(text string) {
	w.Helper()
	script := "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID\" >>" + w.callsFile() + "\n" +
		fmt.Sprintf(text, filepath.Join(tools.plugins, "sockmap")) + "\n"
	w.replace(filepath.Join(w.dir, "bin", "sockmap"), []byte(script), 0o755)
}

// replace replaces a file that may be in use.
func (w *world) replace(file string, content []byte, mode os.FileMode) {
	w.Helper()
	if err := os.WriteFile(file+".new", content, mode); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

func (w *world) callsFile() string { return filepath.Join(w.dir, "calls") }

// calls are the plugin's calls so far: command and, if there is one, container.
func (w *world) calls() []string {
	w.Helper()
	b, err := os.ReadFile(w.callsFile())
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

func (w *world) called(command, id string) bool {
	return slices.Contains(w.calls(), strings.TrimSpace(command+" "+id))
}

// writeConflist writes the conflist, in a version that has STATUS. Unless keys change it, every hazard is
// accepted, and so are readers that wait inside receive calls, as the traffic program does. Nil keys leave
// sockmap out.
func (w *world) writeConflist(keys map[string]any) {
	w.Helper()
	network := lab.Network{CNIVersion: "1.1.0", Name: w.network, Bridge: "br0", Subnets: dualStack}
	if keys == nil {
		network.Without = []string{"sockmap"}
	} else {
		all := map[string]any{"acceptHazards": []string{"all"}, "guards": []string{"splice", "observe", "options"}}
		maps.Copy(all, keys)
		network.Set = map[string]map[string]any{"sockmap": all}
	}
	w.replace(filepath.Join(w.dir, "net.d", "10-sockmap.conflist"), labtest.Conflist(w.T, w.node, network),
		0o600)
}

// datapath opens the state that the plugin has pinned.
func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	if w.opened == nil {
		d, err := datapath.Open(w.node.BPFFS())
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { d.Close() })
		w.opened = d
	}
	return w.opened
}

// records are the attachments of the plugin's ADDs.
func (w *world) records() []endpoint.Attachment {
	w.Helper()
	all, err := (&endpoint.Node{Dir: w.node.BPFFS()}).Attachments(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// record is the attachment of a pod's ADD.
func (w *world) record(p *pod) endpoint.Attachment {
	w.Helper()
	for _, r := range w.records() {
		if r.ContainerID == p.id {
			return r
		}
	}
	w.Fatalf("no record of pod %s", p.spec.name)
	return endpoint.Attachment{}
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	fixture.WaitFor(w, time.Minute, what, ok)
}

func (w *world) wantNothingLeft() {
	w.Helper()
	if w.network == "" {
		return // there was no node
	}
	if left := lab.RuntimeResidue(w.network); len(left) > 0 {
		w.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
