// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/spf13/cobra"
)

// doctorView is the result of an examination of the kernel.
type doctorView struct {
	Kernel      string          `json:"kernel" doc:"release of the running kernel"`
	Accelerated bool            `json:"accelerated" doc:"new containers are accelerated with the hazards that are accepted now"`
	MustAccept  []string        `json:"mustAccept" doc:"hazards that acceptHazards does not name yet and must name before containers are accelerated"`
	Verdict     string          `json:"verdict" doc:"accelerated and mustAccept, in words"`
	Hazards     []findingView   `json:"hazards" doc:"all known hazards"`
	Guards      []guardView     `json:"guards" doc:"all known guards"`
	Implied     []impliedView   `json:"implied" doc:"differences from TCP that are accepted together with any hazard, because the guard against them does not run"`
	Neighbours  []neighbourView `json:"neighbours" doc:"foreign sock_ops programs that run for sockets of containers; null without CAP_SYS_ADMIN"`
	Coexist     string          `json:"coexist" doc:"yield or share: the loaded value, or yield when nothing is loaded"`
}

// findingView is one hazard.
type findingView struct {
	Name         string          `json:"name" doc:"as in acceptHazards"`
	State        findingState    `json:"state" doc:"absent; guarded (a guard cures it); accepted; or present"`
	Severity     hazard.Severity `json:"severity" doc:"severe: it keeps containers from being accelerated; or minor"`
	Meaning      string          `json:"meaning" doc:"what an application sees on a kernel that has it"`
	Seen         string          `json:"seen" doc:"what the probe observed"`
	Cure         string          `json:"cure" doc:"what removes the hazard"`
	Milliseconds float64         `json:"milliseconds" doc:"duration of the probe"`
}

type findingState string

const (
	stateAbsent   findingState = "absent"
	stateGuarded  findingState = "guarded"
	stateAccepted findingState = "accepted"
	statePresent  findingState = "present"
)

func doctorCommand(a *app) *cobra.Command {
	var (
		accepted hazardNames
		guards   guardNames
	)
	cmd := a.withOutput(&cobra.Command{
		Use:   "doctor",
		Short: "Find the hazards of this kernel for redirected sockets",
		Long: `Loads a private copy of the programs, makes connections through them in a cgroup
and a network namespace of its own, and prints the hazards of this kernel: what
applications would see, and what cures it. Loaded programs are not touched, and
everything is removed at the end.

A severe hazard that no guard cures keeps containers from being accelerated
until the configuration accepts it. The exit code is then 5. Give the values of
the plugin's configuration with the flags.`,
		Example: `  sockmapctl doctor
  sockmapctl doctor --accept-hazards splice
  sockmapctl doctor -o json | jq -c .mustAccept`,
	}, formatsOfObject...)
	accepted.flag(cmd, "`NAMES` of hazards that acceptHazards has, or all")
	guards.flag(cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		v, err := examine(cmd.Context(), accepted.names, guards.without())
		if err != nil {
			return fmt.Errorf("examine kernel: %w", err)
		}
		if v.Neighbours, err = readNeighbours(a.node(datapath.Settings{})); err != nil {
			return fmt.Errorf("look for neighbours: %w", err)
		}
		v.Coexist = loadedCoexist(a.dir)
		if a.isDocument() {
			err = a.printDocument("Doctor", v)
		} else {
			err = a.printDoctor(v)
		}
		if err == nil && !v.Accelerated {
			err = printedError{&endpoint.HazardError{Hazards: hazard.SetOf(v.MustAccept...)}}
		}
		return err
	})
}

func examine(ctx context.Context, accepted, withoutGuards []string) (*doctorView, error) {
	s := defaultSettings()
	s.WithoutGuards = withoutGuards
	found, err := endpoint.Examine(ctx, s)
	if err != nil {
		// An interrupted probe fails; the reason is the end of ctx.
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	present, guarded := found.Findings.Sets()
	open := (present &^ guarded).Severe()
	left := open &^ hazard.SetOf(accepted...)
	return &doctorView{
		Kernel: kernelRelease(), Accelerated: left == 0, MustAccept: append([]string{}, left.Names()...),
		Verdict: verdict(open, left), Guards: guardViews(found.Guards),
		Hazards: findingViews(found.Findings, open, left),
		Implied: impliedBy(found.Guards),
	}, nil
}

// verdict is the conclusion for open hazards; those in left are not accepted.
func verdict(open, left hazard.Set) string {
	switch {
	case open == 0:
		return "containers are accelerated by default: no severe hazard is open"
	case left == 0:
		return fmt.Sprintf("containers are accelerated with acceptHazards as given, which %s", needs(open))
	case left == open:
		return fmt.Sprintf("containers are NOT accelerated by default: that %s, which is for you to decide",
			needs(left))
	}
	return fmt.Sprintf("containers are NOT accelerated with acceptHazards as given: that %s, too",
		needs(left))
}

// needs formats hazards as the plugin's configuration has them.
func needs(hazards hazard.Set) string {
	list, _ := json.Marshal(hazards.Names()) // of strings: it cannot fail
	return `takes "acceptHazards": ` + strings.ReplaceAll(string(list), ",", ", ")
}

func findingViews(findings hazard.Findings, open, left hazard.Set) []findingView {
	views := make([]findingView, 0, len(findings))
	for _, f := range findings {
		v := findingView{Name: f.Name, State: stateAbsent, Seen: f.Seen, Milliseconds: float64(f.Nanos) / 1e6}
		if h, ok := hazard.Named(f.Name); ok {
			v.Severity, v.Meaning, v.Cure = h.Severity, h.Meaning, h.Cure()
		}
		switch own := hazard.SetOf(f.Name); {
		case f.Guarded:
			v.State = stateGuarded
		case f.Present && own&open != 0 && own&left == 0:
			v.State = stateAccepted
		case f.Present:
			v.State = statePresent
		}
		views = append(views, v)
	}
	return views
}

func (a *app) printDoctor(v *doctorView) error {
	s := a.screen(doctorLabel)
	s.Line("kernel", "%s", v.Kernel)
	for _, h := range v.Hazards {
		s.finding(h)
	}
	for _, g := range v.Guards {
		s.Line("guard "+g.Name, "%s", g)
		s.Line("  does", "%s", g.Meaning)
	}
	s.severeNeighbours(v.Neighbours, v.Coexist == coexistShare)
	s.implied(v.Implied)
	s.Line("verdict", "%s", v.Verdict)
	return s.Flush()
}

// doctorLabel is as wide as the longest name of a hazard.
const doctorLabel = 21

func (s *screen) finding(f findingView) {
	state := string(f.State)
	if f.State == statePresent || f.State == stateAccepted {
		state = strings.ToUpper(state)
	}
	took := time.Duration(f.Milliseconds * float64(time.Millisecond)).Round(10 * time.Microsecond)
	s.Line(f.Name, "%s (%s), found in %v", state, f.Severity, took)
	s.Line("  meaning", "%s", f.Meaning)
	s.Line("  seen", "%s", f.Seen)
	if f.State != stateAbsent {
		s.Line("  cure", "%s", f.Cure)
	}
}

// guardView is one guard.
type guardView struct {
	Name    string `json:"name" doc:"as in the key guards"`
	Active  bool   `json:"active" doc:"the guard runs"`
	Hook    string `json:"hook" doc:"where the guard is attached; empty when it does not run"`
	Resting bool   `json:"resting" doc:"the guard is active but not attached, because no container is accelerated; it is attached before the first one is"`
	Why     string `json:"why" doc:"why the guard does not run: the error of the kernel, or that the configuration omits it"`
	Meaning string `json:"meaning" doc:"what it does"`

	needless bool // it is not loaded because this kernel has nothing that it cures
}

func guardViews(states []datapath.GuardState) []guardView {
	views := make([]guardView, 0, len(states))
	for _, s := range states {
		views = append(views,
			guardView{s.Name, s.Active, s.Hook, s.Resting, s.Why, guardMeaning(s.Name), s.Needless()})
	}
	return views
}

func (g guardView) String() string {
	if g.Resting {
		return "active at " + g.Hook + " once a container takes part"
	}
	if g.Active {
		return "active at " + g.Hook
	}
	if g.needless {
		return g.Why
	}
	return "not active: " + g.Why
}

// implied lists what else is accepted, where containers are accelerated.
func (s *screen) implied(all []impliedView) {
	for _, v := range all {
		s.Line("accepted, too", "%s, as the guard %s does not run: %s", v.Name, v.Guard, v.Meaning)
	}
}
