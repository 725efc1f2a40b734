// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// statsSwitch says whether the kernel counts runs of programs.
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

// ProgramRuns reads it of each program of the data path. It is nil while the kernel does not count, which costs every
// program of the node some 20 ns a run (sysctl kernel.bpf_stats_enabled).
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
