// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
)

// benchResult has rounds around a and b; redirected is how many of a thousand messages were.
func benchResult(c bench.Case, plain, accelerated, noise float64, redirected uint64) bench.Result {
	return bench.Result{
		Case: c, Plain: around(plain, 0), Accelerated: around(accelerated, noise),
		Sent: 1000 * uint64(c.Bytes), Redirected: redirected * uint64(c.Bytes),
	}
}

// around has a round for each, at most noise away.
func around(v, noise float64) (all []float64) {
	for i := range bench.Rounds {
		all = append(all, v*(1+noise*float64(i%3-1)))
	}
	return all
}

func requestsOf(bytes int) bench.Case { return bench.Case{Kind: wire.Requests, Bytes: bytes} }

func streamOf(bytes int, two bool) bench.Case {
	return bench.Case{Kind: wire.Stream, Bytes: bytes, TwoCPUs: two}
}

// benchReports: a node that gains and loses, with guards that cost; and one where nothing gains, and no guard
// runs.
func benchReports() []bench.Report {
	refused := datapath.GuardState{Name: datapath.GuardSplice, Why: "operation not permitted"}
	cost := func(c bench.Case, accelerated bool, with, without float64) bench.GuardCost {
		return bench.GuardCost{Case: c, Accelerated: accelerated, With: around(with, 0.01),
			Without: around(without, 0)}
	}
	return []bench.Report{
		{
			Results: []bench.Result{
				benchResult(requestsOf(64), 20000, 9000, 0.02, 993),        // the first replies came over TCP
				benchResult(requestsOf(16<<10), 30000, 29900, 0.01, 1000),  // gains next to nothing
				benchResult(streamOf(64, false), 1e8, 0.9e8, 0.02, 1000),   // loses
				benchResult(streamOf(64, true), 1e8, 0.999e8, 0.02, 0),     // loses within the noise, over TCP
				benchResult(streamOf(64<<10, true), 2e9, 1.2e9, 0.05, 850), // loses
				benchResult(streamOf(64<<10, false), 1.5e9, 1.8e9, 0.05, 850),
			},
			Congestion: "cubic", NodeCongestion: "bbr",
			Guards: []datapath.GuardState{refused, {Name: datapath.GuardOptions, Active: true,
				Hook: "cgroup/setsockopt"}},
			Costs: []bench.GuardCost{
				cost(requestsOf(64), false, 20000, 20000), cost(requestsOf(64), true, 9900, 9000),
				cost(streamOf(64, false), false, 0.9e8, 1e8), cost(streamOf(64, false), true, 1.01e8, 1e8),
			},
		},
		{
			Results: []bench.Result{
				benchResult(requestsOf(64), 20000, 20000, 0.2, 1000),
				benchResult(requestsOf(16<<10), 30000, 15000, 0.01, 890), // not what it was to measure
				benchResult(streamOf(64<<10, false), 1e9, 0.7e9, 0.05, 850),
			},
			Guards: []datapath.GuardState{refused}, Unfiltered: "this node does not filter bridged packets",
			Congestion: "cubic", NodeCongestion: "cubic",
		},
	}
}

func TestBenchPrintsItsVerdict(t *testing.T) {
	var out bytes.Buffer
	a := &app{env: env{stdout: &out}}
	for i, report := range benchReports() {
		v := newBenchView(report, bench.Options{Duration: 30 * time.Second, CPU: 1, OtherCPU: -i})
		v.Kernel = "6.18.0"
		v.Verdict = benchVerdict(v)
		if err := a.printBench(v); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden.Check(t, filepath.Join("testdata", "bench.golden"), out.String())
}

func TestSlowerCasesAreMarkedInJSON(t *testing.T) {
	v := newBenchView(benchReports()[0], bench.Options{})
	var lost, unclear []int
	for i, c := range v.Cases {
		if c.Loss {
			lost = append(lost, i)
		}
		if !c.Clear {
			unclear = append(unclear, i)
		}
		if c.Loss != (c.Ratio.Value < 1) {
			t.Errorf("%+v", c)
		}
	}
	if !slices.Equal(lost, []int{2, 3, 4}) || !slices.Equal(unclear, []int{1, 3}) {
		t.Errorf("lost %v, unclear %v", lost, unclear)
	}
}

func TestBenchNamesGuardsOfALoadedSockmap(t *testing.T) {
	v := newBenchView(benchReports()[0], bench.Options{})
	v.LoadedGuards = []string{"observe"}
	if said := v.guardVerdict(); !strings.Contains(said, "is unknown") || !strings.Contains(said, "observe") {
		t.Error(said)
	}
}

func TestBenchMeasuresThisNode(t *testing.T) {
	n := newTestNode(t)
	var v benchView
	n.read(t, &v, "bench")
	want := len(bench.Cases())
	if v.OtherCPU < 0 {
		want /= 2
	}
	if len(v.Cases) != want || len(v.Verdict) < 3 || len(v.Guards) != len(datapath.Guards) {
		t.Fatalf("%+v", v)
	}
	for _, c := range v.Cases {
		if c.Ratio.Low <= 0 || c.Ratio.Low > c.Ratio.Value || c.Ratio.High < c.Ratio.Value || !c.wasRedirected() {
			t.Errorf("%+v", c)
		}
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	n := newTestNode(t)
	for _, args := range [][]string{{"--duration", "1s"}, {"--duration", "2m"}, {"--cpu", "9999"},
		{"--cpu", "-2"}, {"--other-cpu", "9999"}} {
		if r := n.run(t, append([]string{"bench"}, args...)...); r.code != exitUsage ||
			!strings.Contains(r.stderr, args[0]) {
			t.Errorf("%q: exit code %d, %q", args, r.code, r.stderr)
		}
	}
}
