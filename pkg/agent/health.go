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

// Readiness says which parts count for being ready. All parts are told, whichever count.
type Readiness string

// The values of Readiness.
const (
	// ReadyInstalled: the node does for containers all that this agent can see to.
	ReadyInstalled Readiness = "installed"
	// ReadyAccelerating: and a container that is added now is accelerated, unless it asks for more than the entry accepts.
	ReadyAccelerating Readiness = "accelerating"
)

// Readinesses lists the values; the first is the default.
func Readinesses() []Readiness { return []Readiness{ReadyInstalled, ReadyAccelerating} }

// The parts that the agent itself sees to.
const (
	partBinary   = "binary"              // the plugin is where runtimes find it
	partPrograms = endpoint.PartPrograms // they are loaded
	partNetwork  = "network"             // the entry is in the network configuration
	partGone     = "uninstalled"         // none of them is there any more: the only part of an agent that is leaving
)

// part is one thing that being ready is made of.
type part struct {
	name  string
	means Readiness // the least at which it counts
}

// parts lists all, in the order in which they are told: those of the agent's own, which set reports, and then those
// of the node, which are looked at when somebody asks.
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

// partStatus is what is to be said of one part.
type partStatus struct {
	name   string
	counts bool
	err    error // nil: fine
}

// errNotYet is of a part that nobody has looked at yet.
var errNotYet = errors.New("not looked at yet")

// stuckAfter is how long the loop may take beyond its interval. It waits for locks, and for the first load.
const stuckAfter = 2 * time.Minute

// health is how the agent is, for several goroutines.
type health struct {
	mu       sync.Mutex
	state    map[string]error // nil: fine; missing: not looked at yet
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

// healthy fails when the loop is stuck.
func (h *health) healthy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := time.Since(h.alive); since > h.interval+stuckAfter {
		return fmt.Errorf("no sign of life for %v", since.Round(time.Second))
	}
	return nil
}

// last returns what was set last of a part.
func (h *health) last(part string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err, known := h.state[part]
	if !known {
		return errNotYet
	}
	return err
}

// partStatuses judges all parts now.
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
		v := partStatus{name: p.name, counts: p.means == ReadyInstalled || a.ReadyMeans == ReadyAccelerating, err: node[p.name]}
		// What the agent has met says more than a look: programs that are loaded, and could not be replaced.
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

// unloadedAsWanted tells whether the programs are not there because a person has unloaded them: the next container loads.
func (a *Agent) unloadedAsWanted(err error) bool {
	_, unloaded := datapath.UnloadedByHand(a.Node.Dir)
	return unloaded && errors.Is(err, datapath.ErrNotLoaded)
}

// ready fails with one line for each part that counts and is not as it should be.
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

// verboseText has one line for each part, as the health checks of Kubernetes' own components do.
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
