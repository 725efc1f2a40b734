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
	Unfiltered   string           `json:"unfiltered" doc:"why packets of plain TCP did not pass the packet filter; empty: they did"`
	Congestion   string           `json:"congestion" doc:"congestion control of TCP that was used"`
	NodeDefault  string           `json:"nodeCongestion" doc:"that of this node; one that paces makes plain TCP slower"`
	CPU          int              `json:"cpu" doc:"of both ends, and of the end that answers or reads on two CPUs"`
	OtherCPU     int              `json:"otherCPU" doc:"of the end that asks or writes on two CPUs; -1: there is no other"`
	Seconds      float64          `json:"seconds" doc:"of traffic, both sides together"`
	Rounds       int              `json:"rounds" doc:"of each case on each side, in turn"`
	Guards       []guardView      `json:"guards" doc:"all that are known; those that are active ran"`
	LoadedGuards []string         `json:"loadedGuards" doc:"guards of the sockmap that is loaded, which ran for this traffic as well"`
	Cases        []benchCaseView  `json:"cases" doc:"kinds of traffic"`
	GuardCosts   []benchGuardView `json:"guardCosts" doc:"what the active guards cost together"`
	Verdict      []string         `json:"verdict" doc:"what that means, in words"`
}

type benchCaseView struct {
	Kind        wire.Kind `json:"kind" doc:"requests: a request and its answer in turn; stream: one way, as fast as it goes"`
	Bytes       int       `json:"bytes" doc:"of each request and each answer, or of each write"`
	TwoCPUs     bool      `json:"twoCPUs" doc:"each end had its own CPU"`
	Unit        string    `json:"unit" doc:"of the medians: ns that a request and its answer took, or bytes/s"`
	Plain       float64   `json:"plain" doc:"over plain TCP, the median of the rounds"`
	Accelerated float64   `json:"accelerated" doc:"through sockmap, the median of the rounds"`
	Ratio       ratioView `json:"ratio" doc:"how many times better accelerated is than plain"`
	Loss        bool      `json:"loss" doc:"the ratio is below 1"`
	Clear       bool      `json:"clear" doc:"1 is not in the interval"`
	Sent        uint64    `json:"sentBytes" doc:"by both ends of the accelerated connections"`
	Redirected  uint64    `json:"redirectedBytes" doc:"of these, as the programs counted them"`
}

type ratioView struct {
	Value float64 `json:"value" doc:"the median of the ratios of all rounds; above 1 is better"`
	Low   float64 `json:"low" doc:"lower end of the interval that 95 % of resampled rounds lie in"`
	High  float64 `json:"high" doc:"its upper end"`
}

type benchGuardView struct {
	Kind        wire.Kind `json:"kind" doc:"as in cases"`
	Bytes       int       `json:"bytes" doc:"as in cases"`
	Accelerated bool      `json:"accelerated" doc:"of accelerated connections; else of plain ones on the same node"`
	Unit        string    `json:"unit" doc:"as in cases"`
	With        float64   `json:"with" doc:"with the guards, the median of the rounds"`
	Without     float64   `json:"without" doc:"without any guard"`
	Ratio       ratioView `json:"ratio" doc:"how many times better it is with guards than without; below 1 is what they cost"`
	Clear       bool      `json:"clear" doc:"1 is not in the interval"`
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
