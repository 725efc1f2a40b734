// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// benchView is what a measurement says.
type benchView struct {
	Kernel  string          `json:"kernel" doc:"release of the running kernel"`
	CPU     int             `json:"cpu" doc:"both ends ran there"`
	Seconds float64         `json:"seconds" doc:"of traffic, both sides together"`
	Rounds  int             `json:"rounds" doc:"of each case on each side, in turn"`
	Cases   []benchCaseView `json:"cases" doc:"kinds of traffic"`
	Verdict []string        `json:"verdict" doc:"what that means, in words"`
}

type benchCaseView struct {
	Kind        bench.Kind `json:"kind" doc:"requests: a request and its answer in turn; stream: one way, as fast as it goes"`
	Bytes       int        `json:"bytes" doc:"of each request and each answer, or of each write"`
	Unit        string     `json:"unit" doc:"of the numbers: ns that a request and its answer took, or bytes/s"`
	Plain       benchStats `json:"plain" doc:"by TCP/IP"`
	Accelerated benchStats `json:"accelerated" doc:"through sockmap"`
	Ratio       float64    `json:"ratio" doc:"accelerated to plain, of the medians"`
	Sent        uint64     `json:"sentBytes" doc:"by both ends of the accelerated connections"`
	Redirected  uint64     `json:"redirectedBytes" doc:"of these, as the programs counted them"`
}

type benchStats struct {
	Median float64 `json:"median" doc:"of the rounds"`
	Spread float64 `json:"spread" doc:"between the least and the greatest round, as a share of the median"`
}

// Bounds of --duration. Less measures noise.
const (
	benchLeast   = 3 * time.Second
	benchMost    = 45 * time.Second
	benchDefault = 20 * time.Second
)

func benchCommand(a *app) *cobra.Command {
	var (
		duration time.Duration
		cpu      int
	)
	cmd := a.noun(&cobra.Command{
		Use:   "bench",
		Short: "Measure what redirecting gives on this node, in less than a minute",
		Long: `Sends the same traffic between two network namespaces that a veth pair connects,
plain and accelerated in turn, and tells what redirecting gives on this node.

Programs, cgroups and namespaces are its own and go with it, even if it is
killed. Whether sockmap is loaded makes no difference; what is loaded is not
touched. Hazards of the kernel play no part, because this traffic only reads and
writes, and no guard runs; see doctor for both.

Both ends run on one CPU, so that the numbers are of the work that is done, and
not of how fast one CPU wakes another.`,
		Example: `  sockmapctl bench
  sockmapctl bench --duration 5s --cpu 0
  sockmapctl bench -o json | jq '.cases[] | {kind, bytes, ratio}'`,
	}, formatTable, formatJSON)
	cmd.Flags().DurationVar(&duration, "duration", benchDefault, "`TIME` of all traffic together")
	cmd.Flags().IntVar(&cpu, "cpu", -1, "`CPU` to run on; -1: the last that this process may use")
	before(cmd, func() error {
		if duration < benchLeast || duration > benchMost {
			return fmt.Errorf("--duration: %v is not between %v and %v", duration, benchLeast, benchMost)
		}
		return checkCPU(cpu)
	})
	return runs(cmd, func(cmd *cobra.Command) error {
		v, err := measureNode(cmd.Context(), duration, cpu)
		if err != nil {
			return fmt.Errorf("measure: %w", err)
		}
		if a.output == formatJSON {
			return a.printJSON(v)
		}
		return a.printBench(v)
	})
}

func checkCPU(cpu int) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); cpu >= 0 && err == nil && !allowed.IsSet(cpu) {
		return fmt.Errorf("--cpu: this process may not run on CPU %d", cpu)
	}
	if cpu < -1 {
		return fmt.Errorf("--cpu: %d is no CPU", cpu)
	}
	return nil
}

// lastCPU is the least likely to have interrupts and housekeeping to do.
func lastCPU() int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0
	}
	last := 0
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			last = cpu
		}
	}
	return last
}

func measureNode(ctx context.Context, duration time.Duration, cpu int) (*benchView, error) {
	if cpu < 0 {
		cpu = lastCPU()
	}
	results, err := bench.Run(ctx, bench.Options{Duration: duration, CPU: cpu, Settings: defaultSettings()})
	if err != nil {
		return nil, err
	}
	v := &benchView{Kernel: kernelRelease(), CPU: cpu, Seconds: duration.Seconds(), Rounds: bench.Rounds}
	for _, r := range results {
		v.Cases = append(v.Cases, newBenchCase(r))
	}
	v.Verdict = benchVerdict(v.Cases)
	return v, nil
}

func newBenchCase(r bench.Result) benchCaseView {
	c := benchCaseView{
		Kind: r.Kind, Bytes: r.Bytes, Unit: "ns", Sent: r.Sent, Redirected: r.Redirected,
		Plain:       benchStats{bench.Median(r.Plain), bench.Spread(r.Plain)},
		Accelerated: benchStats{bench.Median(r.Accelerated), bench.Spread(r.Accelerated)},
	}
	if r.Kind == bench.Stream {
		c.Unit = "bytes/s"
	}
	if c.Plain.Median > 0 {
		c.Ratio = c.Accelerated.Median / c.Plain.Median
	}
	return c
}

// name is what a person calls it.
func (c benchCaseView) name() string {
	if c.Kind == bench.Stream {
		return fmt.Sprintf("streams, writes of %s", humanBytes(uint64(c.Bytes)))
	}
	return fmt.Sprintf("requests of %s", humanBytes(uint64(c.Bytes)))
}

func (c benchCaseView) wasRedirected() bool {
	return bench.Case{Kind: c.Kind, Bytes: c.Bytes}.WasRedirected(c.Sent, c.Redirected)
}

// gain is how many times better accelerated is: above 1 it is worth something.
func (c benchCaseView) gain() float64 {
	if c.Kind == bench.Stream || c.Ratio == 0 {
		return c.Ratio
	}
	return 1 / c.Ratio
}

// worth is the gain from which somebody may notice.
const worth = 1.1

// benchVerdict says of each case what one can expect, or why nothing can be said.
func benchVerdict(cases []benchCaseView) []string {
	verdict := []string{}
	gains := 0
	for _, c := range cases {
		gain := c.gain()
		noise := max(c.Plain.Spread, c.Accelerated.Spread)
		measure := fmt.Sprintf("take %.2f of the time", c.Ratio)
		if c.Kind == bench.Stream {
			measure = fmt.Sprintf("move %.2f times the bytes", c.Ratio)
		}
		switch {
		case !c.wasRedirected():
			verdict = append(verdict, fmt.Sprintf("%s: cannot be told: only %s of the bytes were redirected, please report this with the kernel's version",
				c.name(), humanShare(c.Redirected, c.Sent)))
		case math.Abs(gain-1) < noise && gain < worth+noise && gain > 1-noise:
			verdict = append(verdict, fmt.Sprintf("%s: %s, which is within the noise of %.0f %%: measure longer on a quieter node, or expect no gain",
				c.name(), measure, 100*noise))
		case gain < worth:
			verdict = append(verdict, fmt.Sprintf("%s: %s: not worth it on this node", c.name(), measure))
		default:
			gains++
			verdict = append(verdict, fmt.Sprintf("%s: %s%s", c.name(), measure, unsteady(noise)))
		}
	}
	if gains == 0 {
		return append(verdict, "no kind of traffic gains here")
	}
	return append(verdict, "this is of connections between containers of one node, on one CPU that does nothing else; connections to other "+
		"nodes are as before, and where the time goes to the programs themselves less is gained")
}

// unsteady warns of a number that the next measurement will not repeat.
func unsteady(noise float64) string {
	if noise < 0.25 {
		return ""
	}
	return fmt.Sprintf(" (roughly: rounds differ by %.0f %%)", 100*noise)
}

func (a *app) printBench(v *benchView) error {
	s := &screen{bufio.NewWriter(a.stdout), a.width, statusLabel}
	s.line("kernel", "%s", v.Kernel)
	s.line("measured", "%d rounds of each, plain and accelerated in turn, %.0f s in all, both ends on CPU %d", v.Rounds, v.Seconds, v.CPU)
	for _, c := range v.Cases {
		s.line(string(c.Kind), "%s: plain %s, accelerated %s", humanBytes(uint64(c.Bytes)), c.stats(c.Plain), c.stats(c.Accelerated))
		s.line("", "%.2f x; %s of what was sent was redirected", c.gain(), humanShare(c.Redirected, c.Sent))
	}
	label := "verdict"
	for _, line := range v.Verdict {
		s.line(label, "%s", line)
		label = ""
	}
	return s.flush()
}

func (c benchCaseView) stats(s benchStats) string {
	if c.Kind == bench.Stream {
		return fmt.Sprintf("%.2f GB/s (spread %.0f %%)", s.Median/1e9, 100*s.Spread)
	}
	return fmt.Sprintf("%.1f µs (spread %.0f %%)", s.Median/1e3, 100*s.Spread)
}
