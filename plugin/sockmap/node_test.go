// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestFiftyFirstAddsAtOnce(t *testing.T) {
	const count = 50
	w := newWorld(t)
	pods := make([]*lab.Pod, count)
	for i := range pods {
		pods[i] = w.pod()
	}
	together := func(verb string) {
		var wg sync.WaitGroup
		for _, p := range pods {
			wg.Go(func() {
				if a := run(t, env(verb, p), w.conf(p, keys{"required": true, "logLevel": "info"})); a.err != nil {
					t.Errorf("%s: %v", verb, a.err)
				}
			})
		}
		wg.Wait()
	}
	together("ADD")
	w.expectAccelerated(pods...)
	alone := newWorld(t)
	alone.mustAdd(alone.pod(), nil)
	if diff := cmp.Diff(pinsOf(t, alone.node.BPFFS()), pinsOf(t, w.node.BPFFS())); diff != "" {
		t.Errorf("pins but links differ from those of a single ADD (-want +got):\n%s", diff)
	}
	together("DEL")
	w.expectAccelerated()
}

// pinsOf lists all pins except those of links, sorted.
func pinsOf(t *testing.T, dir string) []string {
	t.Helper()
	var pins []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, _ := filepath.Rel(dir, path); filepath.Base(filepath.Dir(path)) != "links" {
			pins = append(pins, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

// A host with cgroup v1 has no cgroup2 at all.
func TestAHostWithoutCgroup2GetsAPrivateMount(t *testing.T) {
	const run = "/run/sockmap-cni"
	if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is there: %v (remove it)", run, err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.Remove(run+"/cgroup2"), os.Remove(run)); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	p, other := w.pod(), w.pod()
	mount := filepath.Dir(w.node.CgroupPath())
	binary := inPrivateMounts(t, "umount -l "+mount)
	for _, p := range []*lab.Pod{p, other} { // each has to find cgroup2 again, since its namespace ends with it
		a := runBinary(t, binary, env("ADD", p, "CNI_ARGS="),
			w.conf(p, keys{"required": true, "runtimeConfig": nil}))
		if a.err != nil {
			t.Fatalf("ADD: %v\n%s", a.err, a.stderr)
		}
		if r := w.records()[p.ContainerID()]; !r.Accelerated() || r.CgroupSource != "cgroup2 root" ||
			r.CgroupPath != mount {
			t.Errorf("record %+v, want the root of all cgroups", r)
		}
	}
	for _, p := range []*lab.Pod{p, other} {
		if a := runBinary(t, binary, env("DEL", p), w.conf(p, nil)); a.err != nil {
			t.Errorf("DEL: %v", a.err)
		}
	}
	w.expectAccelerated()
}

// As a runtime does: with libcni, after bridge, host-local and portmap.
func TestPluginWorksInARealChain(t *testing.T) {
	for _, version := range supported.SupportedVersions() {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t)
			conflist := labtest.Conflist(t, w.node, lab.Network{
				CNIVersion: version, Set: map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
			})
			p := labtest.NewPod(t, w.node, lab.PodSpec{Conflist: conflist})
			again := labtest.NewPod(t, w.node, lab.PodSpec{Conflist: conflist, Cgroup: w.cgroup(p)[1:]})
			w.expectAccelerated(p, again)
			if len(p.IPs()) == 0 || len(p.Result().Interfaces) == 0 {
				t.Errorf("the chain's result %+v lacks the bridge's work", p.Result())
			}
			for _, q := range []*lab.Pod{p, again} {
				if err := w.node.CHECK(t.Context(), conflist, q); err != nil && version >= "0.4.0" {
					t.Error(err)
				}
			}
			if version == "1.1.0" {
				gcAndStatus(w, conflist, p, again)
			}
			// A pod's new sandbox is added before the last DEL of the old one.
			if err := w.node.DEL(t.Context(), conflist, p); err != nil {
				t.Error(err)
			}
			w.expectAccelerated(again)
			if err := w.node.DEL(t.Context(), conflist, p,
				func(rt *libcni.RuntimeConf) { rt.NetNS = "" }); err != nil {
				t.Error(err)
			}
			w.expectAccelerated(again)
			if err := again.Delete(t.Context()); err != nil {
				t.Error(err)
			}
			w.expectAccelerated()
		})
	}
}

func gcAndStatus(w *world, conflist []byte, pods ...*lab.Pod) {
	w.Helper()
	ctx := w.Context()
	var valid []types.GCAttachment
	for _, p := range pods {
		valid = append(valid, types.GCAttachment{ContainerID: p.ContainerID(), IfName: "eth0"})
	}
	// Always with a list: without one, libcni itself calls DEL for everything that it has ever added.
	if err := w.node.GC(ctx, conflist, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		w.Error(err)
	}
	w.expectAccelerated(pods...)
	if err := w.node.STATUS(ctx, conflist); err != nil {
		w.Error(err)
	}
}

func TestLeftoversOfAKilledPluginAreRemoved(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	for i := range 30 {
		if i%2 == 0 {
			w.unload()
		}
		w.killed(p, time.Duration(i)*2*time.Millisecond)
		if i%3 == 0 {
			w.mustAdd(p, nil)
			w.expectAccelerated(p)
		}
		if a := run(t, env("DEL", p), w.conf(p, nil)); a.err != nil {
			t.Errorf("DEL: %v", a.err)
		}
		w.expectAccelerated()
	}
}

// killed starts an ADD and kills it after some time, unless it has ended by then.
func (w *world) killed(p *lab.Pod, after time.Duration) {
	w.Helper()
	cmd := exec.Command(filepath.Join(labtest.Plugins(w.TB), "sockmap"))
	cmd.Env, cmd.Stdin = env("ADD", p), bytes.NewReader(w.conf(p, nil))
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	fixture.Elapse(after, "another moment of the call each time, at which it is killed")
	_ = cmd.Process.Kill() // may have ended
	_ = cmd.Wait()
}

func (w *world) unload() {
	w.Helper()
	n := endpoint.Node{Dir: w.node.BPFFS()}
	if _, err := n.Unload(context.Background(), false); err != nil {
		w.Fatal(err)
	}
}
