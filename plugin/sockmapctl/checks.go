// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"golang.org/x/sys/unix"
)

// checkView is one condition for loading.
type checkView struct {
	Name   string `json:"name" doc:"privileges, kernel, cgroup2, bpffs, state, load, elsewhere or strays"`
	OK     bool   `json:"ok" doc:"the check does not prevent loading"`
	Detail string `json:"detail" doc:"result of the check"`
	WayOut string `json:"wayOut,omitempty" doc:"what to do when ok is false"`
}

// checks looks for everything that prevents sockmap from being loaded, and changes nothing. opened is the
// error of opening the state.
func (a *app) checks(opened error) []checkView {
	all := []checkView{
		a.host.checkPrivileges(), a.host.checkKernel(), a.host.checkCgroup2(), checkBPFFS(a.dir),
		checkState(a.dir, opened),
	}
	if f, failed := datapath.LastFailure(a.dir); failed && errors.Is(opened, datapath.ErrNotLoaded) {
		all = append(all, checkView{
			"load", false, fmt.Sprintf("failed %s ago: %s", term.Age(f.Ago), f.Reason),
			"put that right, then: sockmapctl load (ADDs try again once a minute)",
		})
	}
	return append(all, a.host.checkElsewhere(a.dir)...)
}

// Bits of the capability sets, linux/capability.h.
var wantedCapabilities = []struct {
	bit  int
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_BPF, "CAP_BPF"},
}

func (h host) checkPrivileges() checkView {
	const name = "privileges"
	held, err := datapath.EffectiveCapabilities(h.procStatus)
	if err != nil {
		return checkView{name, false, err.Error(), "run as root"}
	}
	if held&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return checkView{name, true, "CAP_SYS_ADMIN", ""}
	}
	var missing []string
	for _, c := range wantedCapabilities {
		if held&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return checkView{name, false, "no " + strings.Join(missing, ", no "), "run as root"}
	}
	return checkView{name, true, fmt.Sprintf("%d capabilities", bits.OnesCount64(held)), ""}
}

func (h host) checkKernel() checkView {
	release := kernelRelease()
	if _, err := os.Stat(h.btf); err != nil {
		return checkView{
			"kernel", false, fmt.Sprintf("%s without BTF: %v", release, err),
			"use a kernel with CONFIG_DEBUG_INFO_BTF, 5.15 or newer",
		}
	}
	if why, wayOut := datapath.Unreadable(h.files); why != "" {
		return checkView{"kernel", false,
			fmt.Sprintf("%s: %s, so no program may read its memory", release, why), wayOut}
	}
	return checkView{"kernel", true, release + " with BTF", ""}
}

func (h host) checkCgroup2() checkView {
	m, err := h.mount()
	switch {
	case errors.Is(err, cgroup.ErrNoCgroup2):
		return checkView{"cgroup2", true, "not mounted; the plugin mounts one for itself", ""}
	case err != nil:
		return checkView{"cgroup2", false, err.Error(), "mount -t cgroup2 none /sys/fs/cgroup"}
	}
	return checkView{"cgroup2", true, m.Path, ""}
}

func checkBPFFS(dir string) checkView {
	parent := filepath.Dir(dir)
	err := datapath.CheckDir(dir)
	if !errors.Is(err, datapath.ErrNoBPFFS) { // what is wrong with the directory itself is said of the state
		return checkView{"bpffs", true, parent, ""}
	}
	if parent == filepath.Dir(datapath.DefaultDir) {
		return checkView{"bpffs", true, "not mounted at " + parent + "; loading mounts it", ""}
	}
	return checkView{"bpffs", false, "none at " + parent, datapath.MountHint(parent)}
}

func checkState(dir string, opened error) checkView {
	var foreign *datapath.StateError
	switch {
	case errors.As(opened, &foreign):
		return checkView{
			"state", false, foreign.What(), foreign.WayOut(),
		}
	case errors.Is(opened, datapath.ErrNotLoaded):
		if at, ok := datapath.UnloadedOnRequest(dir); ok {
			when := at.Format(time.RFC3339)
			return checkView{"state", true, "unloaded with sockmapctl unload at " + when +
				": the agent does not load", ""}
		}
		return checkView{"state", true, "nothing is pinned", ""}
	}
	return checkView{"state", false, opened.Error(), "run as root"}
}

// wayOutOf is the first step that the failed checks ask for.
func wayOutOf(checks []checkView) string {
	i := slices.IndexFunc(checks, func(c checkView) bool { return !c.OK })
	if i < 0 {
		return "sockmapctl load, or add a container: the plugin loads"
	}
	return checks[i].WayOut
}
