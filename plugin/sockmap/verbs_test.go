// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestDelSucceedsWithMissingInput(t *testing.T) {
	for _, c := range []struct {
		name   string
		vars   []string
		change keys
		raw    string
		gone   bool // whether it can still find out what to remove
	}{
		{name: "as it should be", gone: true},
		{name: "empty netns", vars: []string{"CNI_NETNS="}, gone: true},
		{name: "netns that is gone", vars: []string{"CNI_NETNS=/run/netns/there-is-none"}, gone: true},
		{name: "netns of a recycled PID, which is the host's", vars: []string{"CNI_NETNS=/proc/self/ns/net"},
			gone: true},
		{name: "no prevResult", change: keys{"prevResult": nil, "runtimeConfig": nil}, gone: true},
		{name: "no CNI_ARGS", vars: []string{"CNI_ARGS="}, gone: true},
		{name: "wrong values", change: keys{"peers": 7, "maxSockets": "many", "prevResult": "x"}, gone: true},
		{name: "log file that cannot be opened", change: keys{"logFile": "/proc/there/is/none"}, gone: true},
		{name: "cniVersion of another plugin", change: keys{"cniVersion": "0.2.0"}},
		{name: "another network", change: keys{"name": "other"}},
		{name: "another interface", vars: []string{"CNI_IFNAME=eth9"}},
		{name: "a stranger", vars: []string{"CNI_CONTAINERID=stranger"}},
		{name: "no name", change: keys{"name": nil}},
		{name: "no JSON", raw: `{"name":`},
		{name: "nothing", raw: " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod()
			w.mustAdd(p, nil)
			stdin := w.conf(p, c.change)
			if c.raw != "" {
				stdin = []byte(c.raw)
			}
			if a := run(t, env("DEL", p, c.vars...), stdin); a.err != nil || a.stdout != "" {
				t.Errorf("DEL: %v, %q", a.err, a.stdout)
			}
			if c.gone {
				w.expectAccelerated()
			} else {
				w.expectAccelerated(p)
			}
		})
	}
}

func TestDelOnANodeThatWasNeverLoaded(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	if a := run(t, env("DEL", p), w.conf(p, nil)); a.err != nil {
		t.Errorf("DEL: %v", a.err)
	}
	w.expectUntouched()
}

// The ADD of another container reaps what a DEL that timed out has left.
func TestDelWithoutTheLockIsRepairedByNextAdd(t *testing.T) {
	w := newWorld(t)
	p, other := w.pod(), w.pod()
	w.mustAdd(p, nil)
	t.Run("held", func(t *testing.T) {
		flock(t, w.node.BPFFS())
		args := &skel.CmdArgs{ContainerID: p.ContainerID(), IfName: "eth0", StdinData: w.conf(p, nil)}
		h := &handler{stderr: t.Output(), lockTimeout: 1}
		if err := h.del(args); err != nil {
			t.Errorf("DEL: %v", err)
		}
	})
	w.expectAccelerated(p)
	if err := p.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.mustAdd(other, nil)
	w.expectAccelerated(other)
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name    string
		happen  func(w *world, p *lab.Pod)
		code    uint // 0: success
		require uint // with required
	}{
		{"after ADD", func(w *world, p *lab.Pod) { w.mustAdd(p, nil) }, 0, 0},
		{"after ADD that opted out", func(w *world, p *lab.Pod) {
			w.mustAdd(w.pod(), nil)
			w.mustAdd(p, keys{"enabled": false})
		}, 0, 0},
		{"never added", func(w *world, p *lab.Pod) { w.mustAdd(w.pod(), nil) }, 0, 999},
		{"never loaded", func(*world, *lab.Pod) {}, 0, decline.NotLoaded.Code()},
		{"foreign state", func(w *world, _ *lab.Pod) { mkdir(w, w.node.BPFFS(), newerState) }, 0,
			decline.ForeignState.Code()},
		{"unloaded since", func(w *world, p *lab.Pod) {
			w.mustAdd(p, nil)
			w.unload()
		}, 0, decline.NotLoaded.Code()},
		{"link removed since", func(w *world, p *lab.Pod) {
			w.mustAdd(p, nil)
			d := w.datapath()
			for _, k := range must(d.LinkKeys()) {
				if err := d.Detach(k); err != nil {
					w.Fatal(err)
				}
			}
		}, 999, 999},
		{"endpoint removed since", func(w *world, p *lab.Pod) {
			w.mustAdd(p, nil)
			if err := w.datapath().DeleteEndpoint(p.NetNSCookie()); err != nil {
				w.Fatal(err)
			}
		}, 999, 999},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod()
			c.happen(w, p)
			for required, code := range map[bool]uint{false: c.code, true: c.require} {
				a := run(t, env("CHECK", p), w.conf(p, keys{"required": required}))
				if code != 0 {
					expectCode(t, a, code)
				} else if a.err != nil || a.stdout != "" {
					t.Errorf("required %v: CHECK: %v, %q", required, a.err, a.stdout)
				}
			}
		})
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func (w *world) datapath() *datapath.Datapath {
	w.Helper()
	return labtest.Datapath(w, w.node)
}

func TestGC(t *testing.T) {
	ref := func(p *lab.Pod) map[string]string {
		return map[string]string{"containerID": p.ContainerID(), "ifname": "eth0"}
	}
	for _, c := range []struct {
		name   string
		change func(kept *lab.Pod) keys
		want   []int // of kept, lost, dead
	}{
		{"with a list", func(p *lab.Pod) keys { return keys{"cni.dev/valid-attachments": []any{ref(p)}} },
			[]int{0}},
		{"with the older key", func(p *lab.Pod) keys { return keys{"cni.dev/attachments": []any{ref(p)}} },
			[]int{0}},
		{"with an empty list", func(*lab.Pod) keys { return keys{"cni.dev/valid-attachments": []any{}} }, nil},
		{"with null", func(*lab.Pod) keys { return keys{"cni.dev/valid-attachments": json.RawMessage("null")} },
			nil},
		{"without its key", func(*lab.Pod) keys { return nil }, []int{0, 1}},
		{"with a list that makes no sense",
			func(*lab.Pod) keys { return keys{"cni.dev/valid-attachments": []any{7}} }, []int{0, 1}},
		{"of another network", func(*lab.Pod) keys {
			return keys{"name": "other", "cni.dev/valid-attachments": []any{}}
		}, []int{0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			pods := []*lab.Pod{w.pod(), w.pod(), w.pod()}
			for _, p := range pods {
				w.mustAdd(p, nil)
			}
			if err := pods[2].Delete(context.Background()); err != nil {
				t.Fatal(err)
			}
			if a := run(t, env("GC", nil), w.conf(nil, c.change(pods[0]))); a.err != nil || a.stdout != "" {
				t.Errorf("GC: %v, %q", a.err, a.stdout)
			}
			records := w.records()
			for _, i := range c.want {
				if _, ok := records[pods[i].ContainerID()]; !ok {
					t.Errorf("pod %d is gone", i)
				}
			}
			if len(records) != len(c.want) {
				t.Errorf("%d records are left, want %d", len(records), len(c.want))
			}
		})
	}
	t.Run("whose name is written otherwise", func(t *testing.T) {
		w := newWorld(t)
		w.mustAdd(w.pod(), keys{"name": "red"})
		w.mustAdd(w.pod(), keys{"name": "blue"})
		a := run(t, env("GC", nil), w.conf(nil, keys{"name": nil, "Name": "green",
			"cni.dev/valid-attachments": []any{}}))
		expectCode(t, a, types.ErrInvalidNetworkConfig, `"name"`)
		if left := len(w.records()); left != 2 {
			t.Errorf("%d records are left, want both", left)
		}
	})
	t.Run("on a node that was never loaded", func(t *testing.T) {
		w := newWorld(t)
		if a := run(t, env("GC", nil), w.conf(nil, keys{"cni.dev/valid-attachments": []any{}})); a.err != nil {
			t.Errorf("GC: %v", a.err)
		}
		w.expectUntouched()
	})
}

// newerState is the name of the state directory of a later version.
var newerState = fmt.Sprintf("v%d", datapath.ABI+1)

func TestStatusFailsOnlyWhereAccelerationIsRequired(t *testing.T) {
	for _, c := range []struct {
		name     string
		happen   func(w *world) keys
		required uint
		texts    []string
	}{
		{"never loaded", func(*world) keys { return keys{} }, 0, nil},
		{"loaded", func(w *world) keys { w.mustAdd(w.pod(), nil); return keys{} }, 0, nil},
		{"foreign state", func(w *world) keys { mkdir(w, w.node.BPFFS(), newerState); return keys{} }, 50,
			[]string{newerState}},
		{"no bpffs", func(*world) keys { return keys{"bpffsPath": "/run/sockmap-there-is-no-bpffs"} }, 50,
			[]string{"no bpffs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			change := c.happen(w)
			if a := run(t, env("STATUS", nil), w.conf(nil, change)); a.err != nil || a.stdout != "" {
				t.Errorf("STATUS: %v, %q", a.err, a.stdout)
			}
			change["required"] = true
			a := run(t, env("STATUS", nil), w.conf(nil, change))
			if c.required != 0 {
				expectCode(t, a, c.required, c.texts...)
			} else if a.err != nil {
				t.Errorf("STATUS with required: %v", a.err)
			}
		})
	}
	t.Run("hazards that nobody has accepted", func(t *testing.T) {
		w := newWorld(t)
		// every kernel has some hazards then
		change := keys{"required": true, "guards": []string{}, "acceptHazards": nil}
		for _, when := range []string{"before the first ADD", "after it"} {
			a := run(t, env("STATUS", nil), w.conf(nil, change))
			expectCode(t, a, 50, "hazards", "acceptHazards")
			if a.err != nil && a.err.Details != "reason: hazards" {
				t.Errorf("%s: details %q", when, a.err.Details)
			}
			expectCode(t, w.add(w.pod(), change), decline.Hazards.Code(), "hazards")
		}
		change["acceptHazards"] = []string{"all"}
		if a := run(t, env("STATUS", nil), w.conf(nil, change)); a.err != nil {
			t.Errorf("accepted: %v", a.err)
		}
		w.mustAdd(w.pod(), change)
	})
	t.Run("but not where nothing is to be accelerated", func(t *testing.T) {
		w := newWorld(t)
		change := keys{"required": true, "enabled": false, "guards": []string{}, "acceptHazards": nil}
		if a := run(t, env("STATUS", nil), w.conf(nil, change)); a.err != nil {
			t.Errorf("STATUS: %v", a.err)
		}
		w.mustAdd(w.pod(), change)
		w.expectUntouched()
	})
	t.Run("or where every ADD will fail over its configuration", func(t *testing.T) {
		w := newWorld(t)
		expectCode(t, run(t, env("STATUS", nil), w.conf(nil, keys{"peers": "planet"})), 7, "peers")
	})
}

func TestVersionListsSupportedVersionsAndChangesNothing(t *testing.T) {
	a := run(t, []string{"CNI_COMMAND=VERSION"}, nil)
	if a.err != nil {
		t.Fatal(a.err)
	}
	want := `{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
	if a.stdout != want || a.stderr != "" {
		t.Errorf("got %q, %q; want %q", a.stdout, a.stderr, want)
	}
}

func TestPluginWithoutCommandPrintsItsVersions(t *testing.T) {
	a := run(t, nil, nil)
	if a.err != nil || a.stdout != "" {
		t.Errorf("got %q, %v", a.stdout, a.err)
	}
	expectTexts(t, "standard error", a.stderr, "CNI plugin sockmap", "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")
}

// Runtimes execute the plugin on hosts with any C library or none.
func TestTheBinaryIsStatic(t *testing.T) {
	f, err := elf.Open(filepath.Join(labtest.Plugins(t), "sockmap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("it needs %v", libs)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic loader")
		}
	}
}
