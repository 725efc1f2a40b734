// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
)

// benchResult has rounds around a and b; redirected is how many of a thousand messages were.
func benchResult(kind bench.Kind, size int, plain, accelerated, noise float64, redirected uint64) bench.Result {
	around := func(v float64) []float64 { return []float64{v, v * (1 + noise), v * (1 - noise), v, v} }
	return bench.Result{
		Case: bench.Case{Kind: kind, Bytes: size}, Plain: around(plain), Accelerated: around(accelerated),
		Sent: 1000 * uint64(size), Redirected: redirected * uint64(size),
	}
}

func TestBenchTellsWhatToExpect(t *testing.T) {
	var out bytes.Buffer
	a := &app{env: env{stdout: &out}}
	for _, results := range [][]bench.Result{
		{
			benchResult(bench.Requests, 64, 20000, 9000, 0.02, 1000-bench.Rounds), // the first answers went by TCP
			benchResult(bench.Requests, 16<<10, 30000, 29000, 0.01, 1000),         // gains next to nothing
			benchResult(bench.Stream, 64<<10, 1e9, 1.4e9, 0.05, 850),
		},
		{
			benchResult(bench.Requests, 64, 20000, 20000, 0.2, 1000),
			benchResult(bench.Requests, 16<<10, 30000, 15000, 0.01, 999-bench.Rounds), // not what it was to measure
			benchResult(bench.Stream, 64<<10, 1e9, 0.7e9, 0.05, 850),                  // loses
		},
	} {
		v := &benchView{Kernel: "6.18.0", CPU: 1, Seconds: 20, Rounds: 5}
		for _, r := range results {
			v.Cases = append(v.Cases, newBenchCase(r))
		}
		v.Verdict = benchVerdict(v.Cases)
		if err := a.printBench(v); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, filepath.Join("testdata", "bench.golden"), out.String())
}

func TestBenchMeasuresThisNode(t *testing.T) {
	n := newTestNode(t)
	var v benchView
	n.read(t, &v, "bench")
	if len(v.Cases) != len(bench.Cases()) || len(v.Verdict) != len(v.Cases)+1 {
		t.Fatalf("%+v", v)
	}
	for _, c := range v.Cases {
		if c.Ratio <= 0 || !c.wasRedirected() {
			t.Errorf("%+v", c)
		}
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	n := newTestNode(t)
	for _, args := range [][]string{{"--duration", "1s"}, {"--duration", "2m"}, {"--cpu", "9999"}, {"--cpu", "-2"}} {
		if r := n.run(t, append([]string{"bench"}, args...)...); r.code != exitUsage || !strings.Contains(r.stderr, args[0]) {
			t.Errorf("%q: exit code %d, %q", args, r.code, r.stderr)
		}
	}
}
