// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
)

// The parts of being ready.
const (
	partBinary   = "binary"   // the plugin is where runtimes find it
	partPrograms = "programs" // they are loaded
	partNetwork  = "network"  // the entry is in the network configuration
)

func parts() []string { return []string{partBinary, partPrograms, partNetwork} }

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

// ready fails with one line for each part that is not as it should be.
func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var wrong []string
	for _, part := range parts() {
		err, known := h.state[part]
		switch {
		case !known:
			wrong = append(wrong, part+": not looked at yet")
		case err != nil:
			wrong = append(wrong, part+": "+err.Error())
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "\n"))
}
