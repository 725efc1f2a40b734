// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

func TestLoadTwiceIsOneLoad(t *testing.T) {
	d := load(t, defaults)
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	again, err := Load(d.Dir(), Settings{MaxSockets: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	cfg, err := again.Config()
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Disabled || cfg.MaxSockets != defaults.MaxSockets || cfg.Version != "test" {
		t.Errorf("the second load changed what is there: %+v", cfg)
	}
}

func TestUnfinishedLoadIsRemoved(t *testing.T) {
	dir := newStateDir(t)
	left := current(dir).building(1).state()
	if err := os.MkdirAll(filepath.Join(left, "links"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Load(dir, defaults)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if err := Unload(dir, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory is still there: %v", err)
	}
	if err := Unload(dir, false); err != nil {
		t.Errorf("the second unload: %v", err)
	}
}

func TestForeignStateIsRefusedWithBothVersions(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		says []string
	}{
		{"a newer directory", func(t *testing.T, dir string) {
			mkdir(t, filepath.Join(dir, stateName(ABI+1)))
		}, []string{strconv.Quote(stateName(ABI + 1)), strconv.Quote(stateName(ABI))}},
		{"another ABI", func(t *testing.T, dir string) {
			d, err := Load(dir, defaults)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.update(func(c *bpf.SockmapConfig) { c.Abi = 9 }); err != nil {
				t.Fatal(err)
			}
		}, []string{"ABI 9", fmt.Sprintf("ABI %d", ABI)}},
		{"a map of somebody else", func(t *testing.T, dir string) {
			mkdir(t, current(dir).state())
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 16, MaxEntries: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Pin(current(dir).pin(bpf.SockmapMapConfig)); err != nil {
				t.Fatal(err)
			}
		}, []string{"16 bytes", fmt.Sprintf("%d bytes", unsafe.Sizeof(bpf.SockmapConfig{}))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := newStateDir(t)
			tt.make(t, dir)
			_, openErr := Open(dir)
			_, loadErr := Load(dir, defaults)
			for call, err := range map[string]error{"open": openErr, "load": loadErr, "unload": Unload(dir, false)} {
				if !errors.Is(err, ErrForeignState) {
					t.Errorf("%s: %v", call, err)
					continue
				}
				for _, word := range append(tt.says, "sockmapctl unload --force") {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%s: %q does not say %q", call, err, word)
					}
				}
			}
			if err := Unload(dir, true); err != nil {
				t.Errorf("unload by force: %v", err)
			}
		})
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestOpenOfMissingStateIsErrNotLoaded(t *testing.T) {
	if _, err := Open(filepath.Join(newStateDir(t), "nothing")); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("open: %v", err)
	}
}

func TestDirectoryOutsideBPFFSIsRefused(t *testing.T) {
	err := EnsureDir(t.Context(), filepath.Join(t.TempDir(), "sockmap"))
	if !errors.Is(err, ErrNoBPFFS) || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("%v", err)
	}
}

func TestAttachIsOneLinkPerCgroup(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	key := LinkKey{CgroupID: g.id}
	for i, want := range []bool{true, false, false} {
		if made, err := d.Attach(g.dir, key); err != nil || made != want {
			t.Errorf("attach %d: made %v, %v", i, made, err)
		}
	}
	links, err := d.Links()
	if err != nil || len(links) != 1 || links[0] != (Link{key, true}) {
		t.Errorf("links: %v, %v", links, err)
	}
	for range 2 {
		if err := d.Detach(key); err != nil {
			t.Error(err)
		}
	}
}

func TestGuardLeftByAKilledDetachIsListedAndRemoved(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	key := LinkKey{CgroupID: g.id}
	if _, err := d.Attach(g.dir, key); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.layout.link(key)); err != nil {
		t.Fatal(err)
	}
	links, err := d.Links()
	if err != nil || len(links) != 1 || links[0] != (Link{key, false}) {
		t.Errorf("links: %v, %v", links, err)
	}
	if err := d.Detach(key); err != nil {
		t.Fatal(err)
	}
	if links, err := d.Links(); err != nil || len(links) != 0 {
		t.Errorf("links after: %v, %v", links, err)
	}
}

func TestLinkOfARemovedCgroupIsNotAlive(t *testing.T) {
	d := load(t, defaults)
	path := filepath.Join(cgroupMount(t), "sockmap-datapath-gone")
	mkdir(t, path)
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		t.Fatal(err)
	}
	key := LinkKey{CgroupID: info.Sys().(*syscall.Stat_t).Ino}
	if _, err := d.Attach(dir, key); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kernel has cut the link", func() bool {
		alive, err := d.LinkAlive(key)
		return err == nil && !alive
	})
}

func TestFullCgroupIsExplained(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	bpftest.Crowd(t, g.dir.Name(), 64)
	_, err := d.Attach(g.dir, LinkKey{CgroupID: g.id})
	if !errors.Is(err, ErrTooManyPrograms) {
		t.Errorf("%v", err)
	}
}

func TestExclusiveForeignProgramIsExplained(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	bpftest.AttachAlone(t, bpftest.SockOps(t), g.dir.Name(), 0)
	_, err := d.Attach(g.dir, LinkKey{CgroupID: g.id})
	if !errors.Is(err, ErrExclusiveProgram) {
		t.Errorf("%v", err)
	}
}

// Every value that the programs can write has a name, and no two share one.
func TestEveryValueHasAName(t *testing.T) {
	for kind, names := range map[string][]string{
		"role": roleNames[:], "mode": modeNames[:], "reason": reasonNames[1:], "result": resultNames[:],
	} {
		seen := map[string]bool{}
		for i, name := range names {
			if name == "" || seen[name] {
				t.Errorf("%s %d: name %q is empty or used twice", kind, i, name)
			}
			seen[name] = true
		}
	}
}

// The embedded programs are those of bpf/: CI compares them with a fresh build. This test checks that all of
// them are pinned.
func TestEveryMapAndProgramIsPinned(t *testing.T) {
	d := load(t, defaults)
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"links": true, "guards": true, digestPin: true}
	for name, m := range spec.Maps {
		want[name] = !strings.HasPrefix(m.Name, ".")
	}
	for name := range spec.Programs {
		want[name] = true
	}
	for name, pinned := range want {
		_, err := os.Lstat(d.layout.pin(name))
		if pinned && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The clock may be set between the reading of a record and its writing back, so stored times are those of
// another clock.
func TestTimesInRecordsOutliveAClockThatJumps(t *testing.T) {
	d := load(t, defaults)
	key := NewAttachmentKey("net", "one", "eth0")
	if err := d.PutAttachment(key, Attachment{ContainerID: "one"}); err != nil {
		t.Fatal(err)
	}
	first, _, err := d.Attachment(key)
	if err != nil || first.createdNs == 0 || time.Since(first.Created) > time.Minute {
		t.Fatalf("%+v, %v", first, err)
	}
	jumped := first
	jumped.Created = first.Created.Add(-24 * 365 * time.Hour)
	if err := d.PutAttachment(key, jumped); err != nil {
		t.Fatal(err)
	}
	again, _, err := d.Attachment(key)
	if err != nil || again.createdNs != first.createdNs {
		t.Errorf("made %d ns after boot, read %d, %v", first.createdNs, again.createdNs, err)
	}
}
