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

// Errors of this package, for errors.Is. Errors of pkg/datapath are passed on.
var (
	// ErrNetNS: the path is not the network namespace of a container.
	ErrNetNS = errors.New("not the network namespace of a container")
	// ErrBusy: another process has held the lock for longer than LockTimeout.
	ErrBusy = errors.New("state directory is in use")
	// ErrNotAdded: the sandbox was never added, or sockmap was unloaded since.
	ErrNotAdded = errors.New("this attachment does not exist")
	// ErrNoNetwork: GC needs the name of a network, and none was given.
	ErrNoNetwork = errors.New(`no name of a network (the configuration has no key "name", in small letters)`)
	// ErrIncomplete: something that an ADD made does not exist any more.
	ErrIncomplete = errors.New("no longer accelerated")
)

// HazardError lists the hazards of this kernel that prevent acceleration: severe, not guarded and not
// accepted.
type HazardError struct{ Hazards hazard.Set }

func (e *HazardError) Error() string {
	return fmt.Sprintf("this kernel has hazards that no guard cures here: %s (see: sockmapctl doctor; to "+
		"accelerate nevertheless, list them under acceptHazards)", e.Hazards)
}

// ConfigError says that the configured cgroup cannot be used.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

// DefaultLockTimeout bounds how long a call waits for the lock. The longest legitimate holder is the first
// load after a boot, which takes less than a second. The ADDs of a full node hold the lock for a few
// milliseconds each. So a longer wait means that the holder hangs. Runtimes allow minutes for a CNI call, so
// they still get this error.
const DefaultLockTimeout = 10 * time.Second

// privateMount is where cgroup2 is mounted on hosts that have not mounted it (cgroup v1).
const privateMount = "/run/sockmap-cni/cgroup2"

// Node is the machine on which endpoints are registered. Its methods may be called by several goroutines and
// processes at once. Methods that change something take the lock of Dir.
type Node struct {
	Dir         string            // state directory, on bpffs
	Settings    datapath.Settings // for the first load; Add applies those that can change later
	Log         *slog.Logger      // nil: nothing is logged
	LockTimeout time.Duration     // 0: DefaultLockTimeout
	// SettingsCount: Upgrade also applies MaxSockets and WithoutGuards of the settings.
	SettingsCount bool
	NeverLoad     bool // Add returns datapath.ErrNotLoaded instead of loading

	// Mount finds cgroup2. nil: cgroup.FindMount.
	Mount func() (cgroup.Mount, error)

	// Root is the directory below which /proc and /sys are looked for. Empty: "/".
	Root string

	// Step is called with a name before each step that changes something. Tests use it to abort or kill
	// there: its error counts as the error of the step. nil in production.
	Step func(name string) error
}

// Sandbox is a pod sandbox as a runtime describes it in one CNI call, with the network and the interface of
// the call.
type Sandbox struct {
	Network, ContainerID, IfName  string // the key of the attachment
	NetNSPath                     string // CNI_NETNS
	PodNamespace, PodName, PodUID string // empty if the runtime does not pass them

	// HostNetwork: the pod uses the network of the host, which must be that of this process. NetNSPath is
	// empty.
	HostNetwork bool
}

// HostNetwork is the network name and the interface name in attachments of pods with hostNetwork. No network
// can have this name, so no GC of a network removes them.
const HostNetwork = "(host)"

func (sb Sandbox) key() datapath.AttachmentKey {
	return datapath.NewAttachmentKey(sb.Network, sb.ContainerID, sb.IfName)
}

// Want is how a sandbox is to be accelerated.
type Want struct {
	Policy            datapath.Policy // Accelerate is implied
	CgroupPath        string          // configured; empty: find it
	RuntimeCgroupPath string          // runtimeConfig.cgroupPath as the runtime passed it
	CgroupID          uint64          // ID of a cgroup that is known to exist; 0: find it
	CgroupSource      string          // how that cgroup was found
	AcceptHazards     []string        // names of hazards that this sandbox accepts, or "all"
}

// Outcome is the result of an Add.
type Outcome struct {
	Cgroup      cgroup.Found // its Notes say why preferred sources were not used
	NetNSCookie uint64
	Loaded      bool      // by this call: it was the first after the boot
	Disabled    bool      // the kill switch is on; the sandbox is registered and accelerated once it is off
	OptedOut    bool      // another attachment of the network namespace has; accelerated once that one is gone
	SwitchedOff string    // the switch that keeps the sandbox on TCP; accelerated once it is on again
	Reaped      []Removed // leftovers of other containers that this call removed
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

// withMount returns a copy of n that uses this mount of cgroup2.
func (n *Node) withMount(mount cgroup.Mount) *Node {
	found := *n
	found.Mount = func() (cgroup.Mount, error) { return mount, nil }
	found.Step = n.step // read at each call, because a test may change it
	return &found
}

func (n *Node) findMount() (cgroup.Mount, error) {
	if n.Mount != nil {
		return n.Mount()
	}
	return cgroup.FindMount()
}
