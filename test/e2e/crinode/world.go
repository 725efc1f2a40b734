// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"fmt"
	"maps"
	"os"
	"path"
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

// World is a node with a runtime, whose network has bridge, host-local and portmap, and sockmap after them if
// the conflist says so.
type World struct {
	*testing.T
	Network string // name of the network, and the node's ID
	runtime *Runtime
	on      *Daemon
	opened  *datapath.Datapath // after there is a state to open
	shares  []float64          // percent of the bytes that were redirected, of each exchange
}

// NewWorld makes a world, and its daemon, which does not run yet and has these directories in addition to
// those of each runtime. The caller writes the plugin and the conflist, configures the daemon and starts it.
func (r *Runtime) NewWorld(t *testing.T, dirs ...string) (*World, *Daemon) {
	t.Helper()
	w := &World{T: t, runtime: r}
	t.Cleanup(w.wantNothingLeft) // after the node is closed
	node := labtest.NewNode(t, lab.Options{BinDir: r.Plugins})
	w.Network = node.ID()
	w.on = r.newDaemon(t, node, dirs...)
	for _, name := range []string{"bridge", "host-local", "loopback", "portmap"} {
		if err := os.Symlink(filepath.Join(r.Plugins, name), filepath.Join(w.on.Dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return w, w.on
}

func (w *World) wantNothingLeft() {
	w.Helper()
	if w.Network == "" {
		return // there was no node
	}
	if left := lab.RuntimeResidue(w.Network); len(left) > 0 {
		w.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// Eventually waits for what a runtime or the kernel does soon.
func (w *World) Eventually(what string, ok func() bool) {
	w.Helper()
	fixture.WaitFor(w, time.Minute, what, ok)
}

// WritePlugin puts a program in sockmap's place that records each call and then runs text; %s in it is the
// path of the real plugin.
func (w *World) WritePlugin(text string) {
	w.Helper()
	script := "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID\" >>" + w.callsFile() + "\n" +
		fmt.Sprintf(text, filepath.Join(w.runtime.Plugins, "sockmap")) + "\n"
	w.replace(filepath.Join(w.on.Dir, "bin", "sockmap"), []byte(script), 0o755)
}

// replace replaces a file that may be in use.
func (w *World) replace(file string, content []byte, mode os.FileMode) {
	w.Helper()
	if err := os.WriteFile(file+".new", content, mode); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

func (w *World) callsFile() string { return filepath.Join(w.on.Dir, "calls") }

// Calls are the plugin's calls so far: command and, if there is one, container.
func (w *World) Calls() []string {
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

// Called reports whether the plugin was called with a command, for a container unless id is empty.
func (w *World) Called(command, id string) bool {
	w.Helper()
	return slices.Contains(w.Calls(), strings.TrimSpace(command+" "+id))
}

func (w *World) confDir() string { return filepath.Join(w.on.Dir, "net.d") }

// WriteConflist writes the conflist, in a version that has STATUS. Unless keys change it, every hazard is
// accepted, and so are readers that wait inside receive calls, as the traffic program does. Nil keys leave
// sockmap out.
func (w *World) WriteConflist(keys map[string]any) {
	w.Helper()
	network := lab.Network{
		CNIVersion: "1.1.0", Name: w.Network, Bridge: "br0", Subnets: w.runtime.Subnets,
	}
	if keys == nil {
		network.Without = []string{"sockmap"}
	} else {
		all := map[string]any{"acceptHazards": []string{"all"}, "guards": []string{"splice", "observe", "options"}}
		maps.Copy(all, keys)
		network.Set = map[string]map[string]any{"sockmap": all}
	}
	list := labtest.Conflist(w.T, w.on.Node, network)
	w.replace(filepath.Join(w.confDir(), "10-sockmap.conflist"), list, 0o600)
}

// Datapath opens the state that the plugin has pinned.
func (w *World) Datapath() *datapath.Datapath {
	w.Helper()
	if w.opened == nil {
		w.opened = labtest.Datapath(w.T, w.on.Node)
	}
	return w.opened
}

// Records are the attachments of ADDs and adoptions, by the sandbox.
func (w *World) Records() map[string]endpoint.Attachment {
	w.Helper()
	all, err := (&endpoint.Node{Dir: w.on.Node.BPFFS()}).Attachments(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	by := map[string]endpoint.Attachment{}
	for _, r := range all {
		by[r.ContainerID] = r
	}
	return by
}

// WantAccelerated expects the record of a pod in the namespace default, with the pod's own cgroup as the
// accelerated one. Where that cgroup came from gets into the row.
func (w *World) WantAccelerated(id, name, cgroup string) {
	w.Helper()
	_, unified, err := lab.Hierarchies()
	if err != nil {
		w.Fatal(err)
	}
	r, ok := w.Records()[id]
	if !ok || !r.Accelerated() || r.CgroupPath != path.Join(unified, cgroup) {
		w.Errorf("%s: want %s accelerated: %+v", name, cgroup, r)
	}
	if r.PodNamespace != "default" || r.PodName != name {
		w.Errorf("recorded as %s/%s, want default/%s", r.PodNamespace, r.PodName, name)
	}
	w.runtime.Row.foundSource(r.CgroupSource)
}
