// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// podsView counts the pods of the node, whether the plugin was called for them or not.
type podsView struct {
	Accelerated int       `json:"accelerated" doc:"pods that are accelerated"`
	OptedOut    int       `json:"optedOut" doc:"pods that the configuration, an annotation or sockmapctl disable keeps on TCP"`
	Declined    int       `json:"declined" doc:"pods that could not be accelerated when they were added"`
	LeftOut     int       `json:"leftOut" doc:"pods for which the plugin was never called"`
	Reasons     []whyView `json:"reasons" doc:"why pods are left out, most frequent first"`
	Problem     string    `json:"problem" doc:"why some pods may be missing; empty when all are counted"`
}

// podsTime bounds the wait for a runtime that does not respond.
const podsTime = 2 * time.Second

// readPods is empty without a source of pods: neither a runtime nor libcni's cache.
func (a *app) readPods(ctx context.Context, f *podFlags) podsView {
	stood, err := a.standings(ctx, f)
	v := podsView{Reasons: []whyView{}}
	if err != nil {
		v.Problem = err.Error()
	}
	counts := map[whyView]uint64{}
	for _, s := range stood {
		switch s.State {
		case adopt.Accelerated:
			v.Accelerated++
		case adopt.OptedOut:
			v.OptedOut++
		case adopt.Declined:
			v.Declined++
		default:
			v.LeftOut++
			counts[whyView{Reason: s.Reason, Words: s.Why()}]++
		}
	}
	for why, n := range counts {
		why.Count = n
		v.Reasons = append(v.Reasons, why)
	}
	slices.SortFunc(v.Reasons, func(a, b whyView) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return v
}

// standings are the statuses of the pods that a runtime or libcni's cache has.
func (a *app) standings(ctx context.Context, f *podFlags) ([]adopt.PodStatus, error) {
	ad, closes, err := a.adopter(f, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer closes()
	ctx, cancel := context.WithTimeout(ctx, podsTime)
	defer cancel()
	return ad.StatusOf(ctx, func(p pods.Pod) bool { return p.From != pods.FromProcesses })
}

// pods prints nothing without a source of pods.
func (s *screen) pods(v podsView) {
	if v.Accelerated+v.OptedOut+v.Declined+v.LeftOut == 0 && v.Problem == "" {
		return
	}
	s.Line("pods", "%d accelerated, %d opted out, %d declined, %d left out", v.Accelerated, v.OptedOut,
		v.Declined, v.LeftOut)
	for _, r := range v.Reasons {
		s.Line("", "%d × %s", r.Count, r.Words)
	}
	if v.Problem != "" {
		s.Line("", "not all are seen: %s", strings.ReplaceAll(v.Problem, "\n", "; "))
	}
}

// advice is empty if no pod is left out that could be accelerated.
func (v podsView) advice() string {
	for _, r := range v.Reasons {
		if r.Reason == adopt.ReasonOlder {
			return fmt.Sprintf("%s without acceleration since before the installation; "+
				"accelerate new connections with: sockmapctl adopt --all", term.Number(int(r.Count),
				"pod runs", "pods run"))
		}
	}
	return ""
}
