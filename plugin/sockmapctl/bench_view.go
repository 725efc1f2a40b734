// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/ratio"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// benchView is the result of a measurement.
type benchView struct {
	Kernel       string           `json:"kernel" doc:"release of the running kernel"`
	Unfiltered   string           `json:"unfiltered" doc:"why packets of plain TCP did not pass the packet filter; empty: they passed it"`
	Congestion   string           `json:"congestion" doc:"congestion control of TCP during the benchmark"`
	NodeDefault  string           `json:"nodeCongestion" doc:"default congestion control of this node; one that uses pacing makes plain TCP slower"`
	CPU          int              `json:"cpu" doc:"CPU of both ends; with twoCPUs, CPU of the end that answers or reads"`
	OtherCPU     int              `json:"otherCPU" doc:"with twoCPUs, CPU of the end that sends requests or writes; -1: there is only one CPU"`
	Seconds      float64          `json:"seconds" doc:"duration of the traffic on both sides together"`
	Rounds       int              `json:"rounds" doc:"rounds of each case on each side; the sides alternate"`
	Guards       []guardView      `json:"guards" doc:"all known guards; the active ones ran during the benchmark"`
	LoadedGuards []string         `json:"loadedGuards" doc:"guards of the loaded sockmap, which ran during the benchmark, too"`
	Cases        []benchCaseView  `json:"cases" doc:"results for each kind of traffic"`
	GuardCosts   []benchGuardView `json:"guardCosts" doc:"cost of all active guards together"`
	Verdict      []string         `json:"verdict" doc:"meaning of the results, in words"`
}

type benchCaseView struct {
	Kind        wire.Kind `json:"kind" doc:"requests: requests and answers alternate; stream: bytes go one way, as fast as possible"`
	Bytes       int       `json:"bytes" doc:"size of each request and each answer, or of each write"`
	TwoCPUs     bool      `json:"twoCPUs" doc:"each end has its own CPU"`
	Unit        string    `json:"unit" doc:"of the medians: ns for one request and its answer, or bytes/s"`
	Plain       float64   `json:"plain" doc:"median of the rounds over plain TCP"`
	Accelerated float64   `json:"accelerated" doc:"median of the rounds through sockmap"`
	Ratio       ratioView `json:"ratio" doc:"how many times faster accelerated is than plain"`
	Loss        bool      `json:"loss" doc:"the ratio is below 1: sockmap is slower"`
	Clear       bool      `json:"clear" doc:"the interval of the ratio does not contain 1"`
	Sent        uint64    `json:"sentBytes" doc:"bytes that both ends of the accelerated connections sent"`
	Redirected  uint64    `json:"redirectedBytes" doc:"of sentBytes, the bytes that the programs redirected"`
}

type ratioView struct {
	Value float64 `json:"value" doc:"median of the ratios of all rounds; above 1 is faster"`
	Low   float64 `json:"low" doc:"lower bound of the interval that contains 95 % of the resampled rounds"`
	High  float64 `json:"high" doc:"upper bound of that interval"`
}

type benchGuardView struct {
	Kind        wire.Kind `json:"kind" doc:"as in cases"`
	Bytes       int       `json:"bytes" doc:"as in cases"`
	Accelerated bool      `json:"accelerated" doc:"the connections were accelerated; false: plain ones on the same node"`
	Unit        string    `json:"unit" doc:"as in cases"`
	With        float64   `json:"with" doc:"median of the rounds with the guards"`
	Without     float64   `json:"without" doc:"median of the rounds without guards"`
	Ratio       ratioView `json:"ratio" doc:"how many times faster it is with guards than without; below 1: the guards cost time"`
	Clear       bool      `json:"clear" doc:"the interval of the ratio does not contain 1"`
}

func newBenchView(r bench.Report, o bench.Options) *benchView {
	v := &benchView{
		Kernel: kernelRelease(), Unfiltered: r.Unfiltered, Congestion: r.Congestion,
		NodeDefault: r.NodeCongestion, CPU: o.CPU, OtherCPU: o.OtherCPU,
		Seconds: o.Duration.Seconds(), Rounds: bench.Rounds, Guards: guardViews(r.Guards),
		LoadedGuards: []string{},
		Cases:        []benchCaseView{}, GuardCosts: []benchGuardView{},
	}
	for _, c := range r.Results {
		x := c.Ratio()
		v.Cases = append(v.Cases, benchCaseView{
			Kind: c.Kind, Bytes: c.Bytes, TwoCPUs: c.TwoCPUs, Unit: benchUnit(c.Kind),
			Plain: ratio.Median(c.Plain), Accelerated: ratio.Median(c.Accelerated),
			Ratio: ratioView(x), Loss: x.Value < 1, Clear: isClear(x), Sent: c.Sent, Redirected: c.Redirected,
		})
	}
	for _, c := range r.Costs {
		x := c.Ratio()
		v.GuardCosts = append(v.GuardCosts, benchGuardView{
			Kind: c.Kind, Bytes: c.Bytes, Accelerated: c.Accelerated, Unit: benchUnit(c.Kind),
			With: ratio.Median(c.With), Without: ratio.Median(c.Without), Ratio: ratioView(x),
			Clear: isClear(x),
		})
	}
	return v
}

func benchUnit(k wire.Kind) string {
	if k == wire.Stream {
		return "bytes/s"
	}
	return "ns"
}

func isClear(r ratio.Ratio) bool { return r.Low > 1 || r.High < 1 }

// benchName names a kind of traffic for people.
func benchName(k wire.Kind, bytes int) string {
	return fmt.Sprintf("%s of %s", k, term.Bytes(uint64(bytes)))
}

func (c benchCaseView) name() string {
	if c.TwoCPUs {
		return benchName(c.Kind, c.Bytes) + " on two CPUs"
	}
	return benchName(c.Kind, c.Bytes)
}

func (c benchCaseView) wasRedirected() bool {
	return bench.Case{Kind: c.Kind, Bytes: c.Bytes, TwoCPUs: c.TwoCPUs}.WasRedirected(c.Sent, c.Redirected)
}

// benchVerdict lists the gains, the losses and the unclear results of this node.
func benchVerdict(v *benchView) (verdict []string) {
	var gains, losses, unclear, unknown []string
	for _, c := range v.Cases {
		named := fmt.Sprintf("%s (%s)", c.name(), c.Ratio.text())
		switch {
		case !c.wasRedirected():
			unknown = append(unknown,
				fmt.Sprintf("%s (%s redirected)", c.name(), term.Share(c.Redirected, c.Sent)))
		case !c.Clear:
			unclear = append(unclear, named)
		case c.Loss:
			losses = append(losses, named)
		default:
			gains = append(gains, named)
		}
	}
	add := func(all []string, words string) {
		if len(all) > 0 {
			verdict = append(verdict, words+": "+strings.Join(all, ", "))
		}
	}
	add(gains, "gains")
	add(losses, "LOSES, leave such traffic out by ports or annotation")
	add(unclear, "no clear difference, measure longer on a quieter node")
	add(unknown, "unknown, as it was not redirected; please report this with the kernel's version")
	if len(gains) == 0 {
		verdict = append(verdict, "no kind of traffic gains here")
	}
	verdict = append(verdict, v.guardVerdict())
	return append(verdict,
		"this is of connections between containers of one node that do nothing else; where programs compute "+
			"for themselves less is gained or lost, and connections to other nodes are not accelerated")
}

// guardVerdict describes the cost of this node's guards.
func (v *benchView) guardVerdict() string {
	var costs []string
	for _, c := range v.GuardCosts {
		if c.Clear && c.Ratio.Value < 1 {
			costs = append(costs, fmt.Sprintf("%s (%.2f)", c.name(), c.Ratio.Value))
		}
	}
	switch {
	case len(v.LoadedGuards) > 0:
		return fmt.Sprintf("the cost of guards is unknown: those of the loaded sockmap ran, too (%s); "+
			"unload it first",
			strings.Join(v.LoadedGuards, ", "))
	case len(v.GuardCosts) == 0:
		return "no guard runs on this kernel, so none costs anything"
	case len(costs) == 0:
		return "the guards of this node have no cost beyond the spread of the rounds"
	}
	return "the guards of this node cost: " + strings.Join(costs, ", ")
}

func (c benchGuardView) name() string {
	if c.Accelerated {
		return benchName(c.Kind, c.Bytes) + ", accelerated"
	}
	return benchName(c.Kind, c.Bytes) + ", plain TCP"
}
