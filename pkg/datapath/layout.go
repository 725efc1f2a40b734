// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// ABI is the version of everything in bpf/abi.h. It is the first word of the config map and the name of the state
// directory.
const ABI = 1

// DefaultDir is where state is pinned unless configured otherwise.
const DefaultDir = "/sys/fs/bpf/sockmap"

// layout computes the names below a state directory. bpffs refuses names with a dot.
type layout struct{ dir string }

func (l layout) state() string          { return filepath.Join(l.dir, "v"+strconv.Itoa(ABI)) }
func (l layout) pin(name string) string { return filepath.Join(l.state(), name) }
func (l layout) links() string          { return filepath.Join(l.state(), "links") }

func (l layout) building(pid int) string {
	return filepath.Join(l.dir, buildingPrefix+strconv.Itoa(pid))
}

const (
	buildingPrefix = "new-"
	cgroupPrefix   = "cgroup-"
	manualPrefix   = "manual-"
)

func (l layout) link(k LinkKey) string {
	return filepath.Join(l.links(), k.String())
}

// LinkKey names one link: the cgroup and whether it takes every network namespace.
type LinkKey struct {
	CgroupID uint64
	Manual   bool // attached by hand: every namespace; else registered ones only
}

// String is the name of the link's pin.
func (k LinkKey) String() string {
	if k.Manual {
		return manualPrefix + strconv.FormatUint(k.CgroupID, 10)
	}
	return cgroupPrefix + strconv.FormatUint(k.CgroupID, 10)
}

func parseLinkKey(name string) (LinkKey, error) {
	digits, manual := strings.CutPrefix(name, manualPrefix)
	if !manual {
		var ok bool
		if digits, ok = strings.CutPrefix(name, cgroupPrefix); !ok {
			return LinkKey{}, fmt.Errorf("link pin %q has an unknown name", name)
		}
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return LinkKey{}, fmt.Errorf("link pin %q names no cgroup: %w", name, err)
	}
	return LinkKey{CgroupID: id, Manual: manual}, nil
}
