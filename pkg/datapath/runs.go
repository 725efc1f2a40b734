// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// statsSwitch is the sysctl that makes the kernel count runs of programs.
const statsSwitch = "/proc/sys/kernel/bpf_stats_enabled"

// Runs is how often a program has run, and for how long altogether, while the kernel counted.
type Runs struct {
	Count uint64
	Total time.Duration
}

// Programs lists the names that ProgramRuns can have.
func Programs() []string {
	return []string{bpf.SockmapProgSockOps, bpf.SockmapProgSockOpsAny, bpf.SockmapProgVerdict}
}

// ProgramRuns returns the Runs of each program of the data path. It is nil while the kernel does not count
// (sysctl kernel.bpf_stats_enabled). Counting costs every program of the node about 20 ns for each run.
func (d *Datapath) ProgramRuns() (map[string]Runs, error) {
	on, err := os.ReadFile(statsSwitch)
	if err != nil || strings.TrimSpace(string(on)) == "0" {
		return nil, nil
	}
	all := map[string]Runs{}
	for _, name := range Programs() {
		p, err := d.program(name)
		if err != nil {
			return nil, err
		}
		stats, err := p.Stats()
		if err != nil {
			return nil, fmt.Errorf("ask program %s: %w", name, err)
		}
		all[name] = Runs{stats.RunCount, stats.Runtime}
	}
	return all, nil
}
