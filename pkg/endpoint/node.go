// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// Errors returned by this package, for errors.Is. Those of pkg/datapath are passed on.
var (
	// ErrNetNS: the path names no network namespace, or that of the host.
	ErrNetNS = errors.New("not the network namespace of a container")
	// ErrBusy: another process has held the lock for longer than LockTimeout.
	ErrBusy = errors.New("state directory is in use")
	// ErrNotAdded: the sandbox was never added, or its record was unloaded.
	ErrNotAdded = errors.New("no record of this attachment")
	// ErrNoNetwork: GC is of one network, and none was named.
	ErrNoNetwork = errors.New(`no name of a network (the configuration has no key "name", which is written in small letters)`)
	// ErrIncomplete: something that an ADD made is no longer there.
	ErrIncomplete = errors.New("no longer accelerated")
)

// HazardError says that this kernel does something to redirected sockets that keeps acceleration off.
type HazardError struct{ Hazards hazard.Set }

func (e *HazardError) Error() string {
	return fmt.Sprintf("this kernel has hazards that no guard cures here: %s (see: sockmapctl doctor; to accelerate all the "+
		"same, list them under acceptHazards)", e.Hazards)
}

// ConfigError says that the configuration names a cgroup that cannot be used.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *ConfigError) Unwrap() error { return e.Err }

// DefaultLockTimeout bounds how long a call waits for others. The longest that the lock is rightly held is the first
// load of a boot, well below a second, and the ADDs of a full node queue up for a few milliseconds each: who waits
// longer waits for a process that hangs. Runtimes give a CNI call minutes, so this one fails in time to be told.
const DefaultLockTimeout = 10 * time.Second

// privateMount is where cgroup2 is mounted on hosts that have it nowhere (cgroup v1).
const privateMount = "/run/sockmap-cni/cgroup2"

// Node is the machine that endpoints are registered on. Its methods may be called from several goroutines and
// processes at once: all but Records and Links take the lock of Dir.
type Node struct {
	Dir         string            // state directory, on bpffs
	Settings    datapath.Settings // for the first load; those that can change later are brought into force by Add
	Log         *slog.Logger      // nil: nothing is logged
	LockTimeout time.Duration     // 0: DefaultLockTimeout
	// SettingsCount: Upgrade brings MaxSockets and WithoutGuards of the settings into force, too.
	SettingsCount bool
	NeverLoad     bool // Add returns datapath.ErrNotLoaded where nothing is loaded

	// Mount finds cgroup2. nil: where the host has it, or else a private mount.
	Mount func() (cgroup.Mount, error)

	// Root is where /proc and /sys are looked for. Empty: "/".
	Root string

	// Step is called by its name before each step that changes something, for tests that abort or kill there. An
	// error is taken for the step's own. nil in production.
	Step func(name string) error
}

// Sandbox is one CNI attachment: an interface of a container in a network.
type Sandbox struct {
	Network, ContainerID, IfName  string // the key
	NetNSPath                     string // CNI_NETNS
	PodNamespace, PodName, PodUID string // empty where the runtime does not say

	// HostNetwork: the pod uses the network of the host, which has to be that of this process. NetNSPath is empty.
	HostNetwork bool
}

// HostNetwork is the network, and the interface, of records of pods with hostNetwork. No network of a runtime can have this
// name, so no GC of a network takes them away.
const HostNetwork = "(host)"

func (sb Sandbox) key() datapath.AttachmentKey {
	return datapath.NewAttachmentKey(sb.Network, sb.ContainerID, sb.IfName)
}

// Want is how a sandbox is to be accelerated.
type Want struct {
	Policy            datapath.Policy // Accelerate is implied
	CgroupPath        string          // configured; empty: find it
	RuntimeCgroupPath string          // runtimeConfig.cgroupPath as the runtime put it
	CgroupID          uint64          // of the cgroup, where it is known to be there; 0: find it
	CgroupSource      string          // ... and what told it
	AcceptHazards     []string        // names of hazards that this sandbox may meet, or "all"
}

// Outcome is what an Add made.
type Outcome struct {
	Cgroup      cgroup.Found // Notes say why better sources did not serve
	NetNSCookie uint64
	Loaded      bool      // by this call: it was the first of the boot
	Disabled    bool      // the kill switch is on: registered, and accelerated as soon as it is off
	OptedOut    bool      // another attachment of the network namespace has: registered, and accelerated once that one is gone
	SwitchedOff string    // by which switch of a person it stays on TCP: registered, and accelerated once that is on again
	Reaped      []Removed // leftovers of others that were cleaned up on the way
}

func (n *Node) step(name string) error {
	if n.Step == nil {
		return nil
	}
	return n.Step(name)
}

func (n *Node) log() *slog.Logger {
	if n.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return n.Log
}

// withMount returns a copy of n that has found cgroup2 already.
func (n *Node) withMount(mount cgroup.Mount) *Node {
	found := *n
	found.Mount = func() (cgroup.Mount, error) { return mount, nil }
	found.Step = n.step // a test may change it meanwhile
	return &found
}

func (n *Node) findMount() (cgroup.Mount, error) {
	if n.Mount != nil {
		return n.Mount()
	}
	return cgroup.FindMount()
}
