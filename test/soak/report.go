// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// reporter prints the progress.
type reporter struct {
	d       *datapath.Datapath
	changer *changer
	counts  *counts
	start   time.Time
}

// sums are totals of all pods.
type sums struct {
	redirected, tcp uint64 // bytes
	fallbacks       map[datapath.Reason]uint64
	callbacks       uint64 // callbacks of the foreign program
}

func (s *sums) share() float64 {
	return 100 * float64(s.redirected) / max(1, float64(s.redirected+s.tcp))
}

func (r *reporter) read() (s sums, err error) {
	totals, err := r.d.Totals()
	if err != nil {
		return s, err
	}
	s.fallbacks = map[datapath.Reason]uint64{}
	for _, t := range totals {
		s.redirected += t.RedirectedBytes
		s.tcp += t.TCPBytes
		for reason, n := range t.Fallbacks {
			s.fallbacks[reason] += n
		}
	}
	s.callbacks, err = r.changer.foreign.callbacks()
	return s, err
}

func (r *reporter) eachMinute(ctx context.Context) {
	for sleep(ctx, time.Minute) {
		r.line()
	}
}

func (r *reporter) line() {
	s, err := r.read()
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		return
	}
	bytes, talks := r.counts.sums()
	fmt.Printf("%5v  %6.1f GB in %7d conversations, %4.1f %% redirected; to TCP: refresh %d, policy %d, disabled %d\n",
		time.Since(r.start).Round(time.Second), float64(bytes)/1e9, talks, s.share(),
		s.fallbacks[datapath.ReasonRefresh], s.fallbacks[datapath.ReasonPolicy],
		s.fallbacks[datapath.ReasonDisabled])
}

// end prints the totals, and returns an error if an event that should accompany the conversations has not
// happened.
func (r *reporter) end(o options) error {
	s, err := r.read()
	if err != nil {
		return err
	}
	events, err := r.d.Events()
	if err != nil {
		return err
	}
	c := r.changer
	fmt.Printf("%v, %d pods, seed %d: %.1f GB checked, no byte wrong; "+
		"%.1f %% of the bytes of paired sockets were redirected\n",
		time.Since(r.start).Round(time.Second), o.pods, o.seed, float64(r.counts.bytes)/1e9, s.share())
	fmt.Printf("%d policies, the kill switch %d times, the foreign program %d times, %d rounds; "+
		"%d foreign callbacks, %d of ours missed\n",
		c.policies.Load(), c.switches.Load(), c.neighbours.Load(), c.rounds.Load(), s.callbacks,
		events[datapath.EventFlagsLost])
	var names, reasons []string
	for name := range r.counts.done {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %7d  %s\n", r.counts.done[name], name)
	}
	for _, reason := range datapath.Reasons() {
		if n := s.fallbacks[reason]; n > 0 {
			reasons = append(reasons, fmt.Sprintf("%v %d", reason, n))
		}
	}
	fmt.Printf("to TCP: %s\n", strings.Join(reasons, ", "))
	return s.happened()
}

func (s *sums) happened() error {
	var errs []error
	for what, n := range map[string]uint64{
		"was redirected":                      s.redirected,
		"used TCP because of a refresh":       s.fallbacks[datapath.ReasonRefresh],
		"used TCP because of a policy":        s.fallbacks[datapath.ReasonPolicy],
		"used TCP because of the kill switch": s.fallbacks[datapath.ReasonDisabled],
		"left because its other end did":      s.fallbacks[datapath.ReasonLeaving],
		"reached the foreign program":         s.callbacks,
	} {
		if n == 0 {
			errs = append(errs, fmt.Errorf("nothing %s, so this shows nothing", what))
		}
	}
	return errors.Join(errs...)
}
