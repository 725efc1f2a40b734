// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
)

// Readiness selects the parts that count for being ready. All parts are reported in any case.
type Readiness string

// The values of Readiness.
const (
	// ReadyInstalled: the installation on this node is complete.
	ReadyInstalled Readiness = "installed"
	// ReadyAccelerating: in addition, a container that is added now is accelerated, unless it asks for more
	// than the entry accepts.
	ReadyAccelerating Readiness = "accelerating"
)

// Readinesses lists the values; the first is the default.
func Readinesses() []Readiness { return []Readiness{ReadyInstalled, ReadyAccelerating} }

// The parts that the agent itself is responsible for.
const (
	partBinary   = "binary"              // the plugin is where runtimes find it
	partPrograms = endpoint.PartPrograms // the programs are loaded
	partNetwork  = "network"             // the entry is in the network configuration
	partGone     = "uninstalled"         // none of them exists: the only part of an agent with Uninstalling
)

// part is one condition of being ready.
type part struct {
	name  string
	means Readiness // the lowest Readiness for which it counts
}

// parts lists all parts in the order of reports: first those of the agent, which set records, then those of
// the node, which are read for each request.
func parts() []part {
	all := []part{
		{partBinary, ReadyInstalled},
		{partPrograms, ReadyInstalled},
		{partNetwork, ReadyInstalled},
	}
	for _, name := range endpoint.PartNames() {
		if name != partPrograms {
			all = append(all, part{name, ReadyAccelerating})
		}
	}
	return all
}

// partStatus is the state of one part.
type partStatus struct {
	name   string
	counts bool
	err    error // nil: fine
}

// errNotYet is the state of a part before its first check.
var errNotYet = errors.New("not checked yet")

// stuckAfter is how much longer than its interval a round may take. It waits for locks and for the first
// load.
const stuckAfter = 2 * time.Minute

// health is the state of the agent. Several goroutines may use it.
type health struct {
	mu       sync.Mutex
	state    map[string]error // nil: fine; missing: not checked yet
	alive    time.Time
	interval time.Duration
}

func (h *health) init(interval time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state, h.alive, h.interval = map[string]error{}, time.Now(), interval
}

func (h *health) set(part string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state[part] = selinux.Explain(err)
}

func (h *health) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = time.Now()
}

// healthy returns an error if the loop is stuck.
func (h *health) healthy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := time.Since(h.alive); since > h.interval+stuckAfter {
		return fmt.Errorf("no sign of life for %v", since.Round(time.Second))
	}
	return nil
}

// last returns the last recorded state of a part.
func (h *health) last(part string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err, known := h.state[part]
	if !known {
		return errNotYet
	}
	return err
}

// partStatuses returns the current state of all parts.
func (a *Agent) partStatuses() []partStatus {
	if a.Uninstalling {
		return []partStatus{{name: partGone, counts: true, err: a.health.last(partGone)}}
	}
	node := map[string]error{}
	for _, p := range a.Node.Parts(a.Installer.Entry.Conf.HazardsAccepted()...) {
		node[p.Name] = p.Err
	}
	list := make([]partStatus, 0, len(parts()))
	for _, p := range parts() {
		v := partStatus{name: p.name, counts: p.means == ReadyInstalled || a.ReadyMeans == ReadyAccelerating,
			err: node[p.name]}
		// What the agent has recorded says more than the state of the node: for example, that loaded programs
		// could not be replaced.
		if p.means == ReadyInstalled {
			v.err = cmp.Or(a.health.last(p.name), v.err)
		}
		if p.name == partPrograms && a.ReadyMeans != ReadyAccelerating && a.unloadedAsWanted(v.err) {
			v.err = nil
		}
		list = append(list, v)
	}
	return list
}

// unloadedAsWanted reports whether the programs are not loaded because a user has unloaded them. The next
// container loads them.
func (a *Agent) unloadedAsWanted(err error) bool {
	_, unloaded := datapath.UnloadedOnRequest(a.Node.Dir)
	return unloaded && errors.Is(err, datapath.ErrNotLoaded)
}

// ready returns an error with one line for each part that counts and has an error.
func ready(list []partStatus) error {
	var wrong []string
	for _, v := range list {
		if v.counts && v.err != nil {
			wrong = append(wrong, v.name+": "+v.err.Error())
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "\n"))
}

// verboseText returns one line for each part, in the format of the health checks of Kubernetes.
func verboseText(list []partStatus) string {
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintln(&b, v)
	}
	if ready(list) == nil {
		return b.String() + "readyz check passed"
	}
	return b.String() + "readyz check failed"
}

func (v partStatus) String() string {
	if v.err == nil {
		return fmt.Sprintf("[+]%s ok", v.name)
	}
	failed := "failed"
	if !v.counts {
		failed = "failed, which does not count here"
	}
	if reason := endpoint.ReasonOf(v.err); reason != decline.Other {
		failed += ", reason " + reason.String()
	}
	return fmt.Sprintf("[-]%s %s: %v", v.name, failed, v.err)
}
