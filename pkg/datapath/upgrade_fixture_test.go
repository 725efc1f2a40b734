// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

// variant changes the programs into those of another version.
type variant func(*ebpf.CollectionSpec)

// sameButForATag are programs that do the same and have other tags.
func sameButForATag(spec *ebpf.CollectionSpec) {
	for _, prog := range spec.Programs {
		// Second, because the first one carries the information about the function for the kernel.
		prog.Instructions = slices.Insert(prog.Instructions, 1, asm.Mov.Reg(asm.R1, asm.R1))
	}
}

// neverRedirects has a verdict that leaves everything to TCP.
func neverRedirects(spec *ebpf.CollectionSpec) {
	verdict := spec.Programs[bpf.SockmapProgVerdict]
	verdict.Instructions = asm.Instructions{
		asm.Mov.Imm(asm.R0, 1).WithSymbol(bpf.SockmapProgVerdict), asm.Return(),
	}
}

// loadVariant loads as another version would, and records that version.
func loadVariant(t testing.TB, dir, version string, change variant) *Datapath {
	t.Helper()
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	change(spec)
	s := defaults
	s.Version = version
	if err := build(current(dir), spec, s, publish); err != nil {
		t.Fatal(err)
	}
	markAs(t, dir, "sha256:of another version")
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		if err := Unload(dir, true); err != nil {
			t.Error(err)
		}
	})
	return d
}

func markAs(t testing.TB, dir, digest string) {
	t.Helper()
	pin := current(dir).pin(digestPin)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(digest, pin); err != nil {
		t.Fatal(err)
	}
}

// upgradeTo is an upgrade that finds cgroups as pkg/endpoint does.
func upgradeTo(t testing.TB, version string, step func(string) error) Takeover {
	t.Helper()
	s := defaults
	s.Version = version
	return Takeover{Settings: s, Step: step, Open: func(id uint64) (*os.File, error) {
		path, err := cgroup.PathOf(cgroup.Mount{Path: cgroupMount(t)}, id)
		if err != nil {
			return nil, err
		}
		return os.Open(path)
	}}
}

func mustUpgrade(t testing.TB, d *Datapath, version string) (links int) {
	t.Helper()
	links, err := d.Upgrade(upgradeTo(t, version, nil))
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// pinnedProgram is the id and the tag of a pinned program.
func pinnedProgram(t testing.TB, d *Datapath, name string) (ebpf.ProgramID, string) {
	t.Helper()
	p, err := ebpf.LoadPinnedProgram(d.layout.pin(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id, info.Tag
}

// attachedVerdict is the verdict of sockets that enter the sockhash now.
func attachedVerdict(t testing.TB, d *Datapath) ebpf.ProgramID {
	t.Helper()
	m, err := d.mapOf(bpf.SockmapMapSockets, 8)
	if err != nil {
		t.Fatal(err)
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: m.FD(), Attach: ebpf.AttachSkMsgVerdict})
	if err != nil || len(found.Programs) != 1 {
		t.Fatalf("programs of the sockhash: %+v, %v", found, err)
	}
	return found.Programs[0].ID
}

// wantOneVersion fails unless everything runs the programs that are pinned, and nothing is unfinished.
func wantOneVersion(t testing.TB, d *Datapath, version string) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Version != version || d.Digest() != Digest() {
		t.Errorf("version %q and programs %q, want %q and %q", cfg.Version, d.Digest(), version, Digest())
	}
	verdict, _ := pinnedProgram(t, d, bpf.SockmapProgVerdict)
	if got := attachedVerdict(t, d); got != verdict {
		t.Errorf("the sockhash has verdict %d, pinned is %d", got, verdict)
	}
	keys, err := d.LinkKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		pins := map[string]string{d.layout.link(key): bpf.SockmapProgSockOps}
		if key.Manual {
			pins[d.layout.link(key)] = bpf.SockmapProgSockOpsAny
		}
		for _, g := range cgroupGuards {
			pins[d.layout.link(key)+g.suffix] = g.program
		}
		for pin, program := range pins {
			if want, _ := pinnedProgram(t, d, program); bpftest.ProgramOf(t, pin) != want {
				t.Errorf("%s runs program %d, want %d", filepath.Base(pin), bpftest.ProgramOf(t, pin), want)
			}
		}
	}
	if found, err := FindLeftovers(d.Dir()); err != nil || found.Unfinished || len(found.Older) > 0 {
		t.Errorf("left over: %+v, %v", found, err)
	}
}

func inode(t testing.TB, f *os.File) uint64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
