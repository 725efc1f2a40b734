// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// ABI is the version of everything in bpf/abi.h. It is the first word of the config map and the name of the
// state directory.
const ABI = uint32(bpf.SockmapAbiABI_VERSION)

// DefaultDir is where state is pinned unless configured otherwise.
const DefaultDir = "/sys/fs/bpf/sockmap"

// layout computes the names of one state below a state directory. bpffs refuses names with a dot.
type layout struct {
	dir  string
	name string // of the state: v2
}

// current is the layout of the state that this version uses.
func current(dir string) layout { return layout{dir, stateName(ABI)} }

func (l layout) state() string          { return filepath.Join(l.dir, l.name) }
func (l layout) pin(name string) string { return filepath.Join(l.state(), name) }
func (l layout) links() string          { return l.pin(linksDir) }

// building is a state that this process is making.
func (l layout) building(pid int) layout {
	return layout{l.dir, buildingPrefix + strconv.Itoa(pid)}
}

// draining is where the state is moved when state of another ABI replaces it.
func (l layout) draining() layout { return layout{l.dir, l.name + drainingSuffix} }

const (
	statePrefix    = "v"
	drainingSuffix = "-draining"
	buildingPrefix = "new-"
	cgroupPrefix   = "cgroup-"
	manualPrefix   = "manual-"
	linksDir       = "links"
	guardsDir      = "guards"
	unsweptDir     = "unswept"
	commonDir      = "common"
)

func stateName(abi uint32) string { return statePrefix + strconv.FormatUint(uint64(abi), 10) }

// parseStateName is the inverse of stateName. ok is false for other names.
func parseStateName(name string) (abi uint32, draining, ok bool) {
	plain, draining := strings.CutSuffix(name, drainingSuffix)
	digits, _ := strings.CutPrefix(plain, statePrefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), draining, err == nil && stateName(uint32(n)) == plain
}

func (l layout) link(k LinkKey) string {
	return filepath.Join(l.links(), k.String())
}

// LinkKey names one link: the cgroup and whether it takes every network namespace.
type LinkKey struct {
	CgroupID uint64
	Manual   bool // attached with sockmapctl attach: every namespace; else registered ones only
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
