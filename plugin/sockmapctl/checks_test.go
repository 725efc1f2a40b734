// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mountOf(m cgroup.Mount, err error) host {
	return host{mount: func() (cgroup.Mount, error) { return m, err }}
}

// lockedDown is a root of a kernel that lets nobody read its memory.
func lockedDown(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "sys/kernel/security")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lockdown"), []byte("none integrity [confidentiality]\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestChecksFindWhatKeepsSockmapFromLoading(t *testing.T) {
	for _, tt := range []struct {
		name   string
		got    checkView
		ok     bool
		detail string // a part of it
		wayOut string // a part of it
	}{
		{"root", host{procStatus: writeFile(t, "Name:\tx\nCapEff:\t000001ffffffffff\n")}.checkPrivileges(),
			true, "CAP_SYS_ADMIN", ""},
		{"the three capabilities", host{procStatus: writeFile(t, "CapEff:\t000000c000001000\n")}.checkPrivileges(),
			true, "3 capabilities", ""},
		{"one is missing", host{procStatus: writeFile(t, "CapEff:\t0000008000001000\n")}.checkPrivileges(),
			false, "no CAP_PERFMON", "root"},
		{"nobody", host{procStatus: writeFile(t, "CapEff:\t0000000000000000\n")}.checkPrivileges(),
			false, "no CAP_NET_ADMIN, no CAP_PERFMON, no CAP_BPF", "root"},
		{"no such line", host{procStatus: writeFile(t, "Name:\tx\n")}.checkPrivileges(), false, "no CapEff",
			"root"},
		{"no BTF", host{btf: "/nonexistent/btf"}.checkKernel(), false, "without BTF", "CONFIG_DEBUG_INFO_BTF"},
		{"locked down", host{btf: "/sys/kernel/btf/vmlinux", files: lockedDown(t)}.checkKernel(), false,
			"locked down for confidentiality", "lockdown=integrity"},
		{"BTF", host{btf: "/sys/kernel/btf/vmlinux"}.checkKernel(), true, "with BTF", ""},
		{"cgroup2", mountOf(cgroup.Mount{Path: "/cg"}, nil).checkCgroup2(), true, "/cg", ""},
		{"no cgroup2", mountOf(cgroup.Mount{}, cgroup.ErrNoCgroup2).checkCgroup2(), true, "not mounted", ""},
		{"cgroup2 unknown", mountOf(cgroup.Mount{}, fs.ErrPermission).checkCgroup2(), false, "permission",
			"mount -t cgroup2"},
		{"no bpffs", checkBPFFS("/tmp/sockmap"), false, "none at /tmp", "mount -t bpf -o mode=0700 bpf /tmp"},
		{"nothing pinned", checkState("/p", datapath.ErrNotLoaded), true, "nothing", ""},
		{"foreign", checkState("/p", &datapath.StateError{Path: "/p", Found: "ABI 7", Own: "ABI 1"}), false,
			"/p is ABI 7, this program needs ABI 1", "unload --force"},
		{"damaged", checkState("/p", &datapath.StateError{Path: "/p/config", Found: "missing", Damaged: true}),
			false,
			"/p/config is missing", "sockmapctl unload --force"},
		{"somebody else's", checkState("/p", &datapath.StateError{Path: "/p/x", Found: `"x"`, Own: `"v2"`,
			NotOurs: true}), false,
			`"x"`, "bpffsPath"},
		{"unreadable", checkState("/p", errors.New("eaten by a grue")), false, "grue", "root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got.OK != tt.ok || !strings.Contains(tt.got.Detail, tt.detail) ||
				!strings.Contains(tt.got.WayOut, tt.wayOut) {
				t.Errorf("got %+v, want ok %v, %q, %q", tt.got, tt.ok, tt.detail, tt.wayOut)
			}
			if !tt.ok && tt.got.WayOut == "" {
				t.Error("no way out")
			}
		})
	}
}

func TestWayOutIsThatOfTheFirstFailedCheck(t *testing.T) {
	checks := []checkView{{Name: "a", OK: true}, {Name: "b", WayOut: "mend b"}, {Name: "c", WayOut: "mend c"}}
	if got := wayOutOf(checks); got != "mend b" {
		t.Errorf("got %q", got)
	}
	if got := wayOutOf(checks[:1]); !strings.Contains(got, "sockmapctl load") {
		t.Errorf("got %q", got)
	}
}

func TestAdviceNamesEachProblem(t *testing.T) {
	fine := nodeView{
		Enabled: true, Settings: settingsView{MaxSockets: 100}, Cgroups: []cgroupView{{Alive: true}},
	}
	if got := fine.advice(); len(got) != 0 {
		t.Errorf("nothing is off, the advice is %q", got)
	}
	for want, change := range map[string]func(*nodeView){
		"sockmapctl enable": func(v *nodeView) { v.Enabled = false },
		"sockmapctl gc":     func(v *nodeView) { v.Attachments.Dead = 1 },
		"gone":              func(v *nodeView) { v.Cgroups = []cgroupView{{}} },
		"doctor":            func(v *nodeView) { v.Hazards.Open = []string{"splice"} },
		"raise maxSockets":  func(v *nodeView) { v.Now.Sockets = 90 },
		"attach --cgroup":   func(v *nodeView) { v.Cgroups = nil },
	} {
		v := fine
		change(&v)
		if got := v.advice(); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("got %q, want one that says %q", got, want)
		}
	}
}
