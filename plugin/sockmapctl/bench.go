// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Bounds of --duration. A shorter run measures noise.
const (
	benchLeast   = 3 * time.Second
	benchMost    = 45 * time.Second
	benchDefault = 30 * time.Second
)

const benchLong = `Sends the same traffic between two containers of its own, over plain TCP and
accelerated in turn, and prints the difference: requests and streams, with both
ends on one CPU and on two.

Plain TCP takes the path between pods: two veth pairs, a bridge, and the packet
filter with masquerading if this node filters bridged packets (br_netfilter). It
uses cubic. A congestion control that paces, such as bbr, slows plain TCP down
on virtual links, and would make acceleration look better than it is. The
programs poll, read and write, and ignore the content: the time is the kernel's.

A ratio is how many times better accelerated is, with the interval of 95 % of
resampled rounds. A ratio below 1 is a loss, and is marked. A loss does not
change the exit code.

Guards run as the plugin loads them. One part is measured without guards: it
shows their cost on this node, for accelerated connections and for all others.

The programs, cgroups and namespaces are private, and are removed with the
command, even if it is killed. Loaded programs are not touched. Guards that
trace run for the whole node during the measurement: see "What the guards cost"
in docs/DATAPATH.md. Hazards of the kernel have no effect, because this traffic
only reads and writes; see doctor for hazards.`

func benchCommand(a *app) *cobra.Command {
	var (
		duration time.Duration
		cpu      int
		otherCPU int
	)
	cmd := a.withOutput(&cobra.Command{
		Use:   "bench",
		Short: "Measure TCP with and without redirection on this node",
		Long:  benchLong,
		Example: `  sockmapctl bench
  sockmapctl bench --duration 5s --cpu 0 --other-cpu 1
  sockmapctl bench -o json | jq '.cases[] | select(.loss) | {kind, bytes, twoCPUs, ratio}'`,
	}, formatsOfObject...)
	cmd.Flags().DurationVar(&duration, "duration", benchDefault, "`TIME` of all measurements together")
	cmd.Flags().IntVar(&cpu, "cpu", -1, "`CPU` of both ends, or of the server with two CPUs;"+
		" -1: the last that this process may use")
	cmd.Flags().IntVar(&otherCPU, "other-cpu", -1, "`CPU` of the client with two CPUs;"+
		" -1: the last but one")
	before(cmd, func() error {
		if duration < benchLeast || duration > benchMost {
			return fmt.Errorf("--duration: %v is not between %v and %v", duration, benchLeast, benchMost)
		}
		if err := checkCPU("--cpu", cpu); err != nil {
			return err
		}
		return checkCPU("--other-cpu", otherCPU)
	})
	return runs(cmd, func(cmd *cobra.Command) error {
		if cpu < 0 {
			cpu = lastCPU(otherCPU)
		}
		if otherCPU < 0 {
			otherCPU = lastCPU(cpu)
		}
		if otherCPU == cpu {
			return fmt.Errorf("measure: --cpu and --other-cpu are both %d: leave one out", cpu)
		}
		o := bench.Options{Duration: duration, CPU: cpu, OtherCPU: otherCPU, Settings: defaultSettings()}
		v, err := a.measureNode(cmd.Context(), o)
		if err != nil {
			return fmt.Errorf("measure: %w", err)
		}
		if a.isDocument() {
			return a.printDocument("Bench", v)
		}
		return a.printBench(v)
	})
}

func checkCPU(flag string, cpu int) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); cpu >= 0 && err == nil && !allowed.IsSet(cpu) {
		return fmt.Errorf("%s: this process may not run on CPU %d", flag, cpu)
	}
	if cpu < -1 {
		return fmt.Errorf("%s: %d is no CPU", flag, cpu)
	}
	return nil
}

// lastCPU returns the CPU with the highest number, which is the least likely to handle interrupts. It returns
// -1 if there is no CPU beside taken.
func lastCPU(taken int) int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return -1
	}
	last := -1
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) && cpu != taken {
			last = cpu
		}
	}
	return last
}

func (a *app) measureNode(ctx context.Context, o bench.Options) (*benchView, error) {
	report, err := bench.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	v := newBenchView(report, o)
	v.LoadedGuards = a.tracingGuards()
	v.Verdict = benchVerdict(v)
	return v, nil
}

// tracingGuards are the guards of the loaded state. They also run for the traffic of this measurement.
func (a *app) tracingGuards() []string {
	names := []string{}
	d, err := datapath.Open(a.dir)
	if err != nil {
		return names
	}
	defer d.Close()
	states, err := d.GuardStates()
	for _, g := range states {
		if err == nil && g.Active && !g.Resting && g.Name != datapath.GuardOptions {
			names = append(names, g.Name)
		}
	}
	return names
}
