// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestDoctorListsEveryHazardAndGuard(t *testing.T) {
	var v doctorView
	newTestNode(t).read(t, &v, "doctor")
	var names []string
	for _, h := range v.Hazards {
		names = append(names, h.Name)
		if h.State == "" || h.State == statePresent && h.Severity == hazard.Severe || h.Severity == "" ||
			h.Meaning == "" ||
			h.Seen == "" || h.Cure == "" || h.Milliseconds <= 0 {
			t.Errorf("%+v", h)
		}
	}
	if diff := cmp.Diff(hazard.SetOf("all").Names(), names); diff != "" {
		t.Error(diff)
	}
	names = nil
	for _, g := range v.Guards {
		names = append(names, g.Name)
		if g.Meaning == "" || g.Active == (g.Hook == "") || g.Active == (g.Why != "") {
			t.Errorf("%+v", g)
		}
	}
	if diff := cmp.Diff(datapath.Guards[:], names); diff != "" {
		t.Error(diff)
	}
}

func TestDoctorFitsTheTerminal(t *testing.T) {
	n := newTestNode(t)
	for _, n.width = range []int{80, 160} {
		screen := n.ok(t, asked("doctor")...)
		for line := range strings.Lines(screen) {
			if got := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); got > n.width {
				t.Errorf("%d columns of %d: %q", got, n.width, line)
			}
		}
		if !strings.Contains(screen, "\nverdict ") {
			t.Errorf("no verdict in\n%s", screen)
		}
	}
}

func TestVerdicts(t *testing.T) {
	both := hazard.SetOf("splice", "fin")
	for _, tt := range []struct {
		open, left hazard.Set
		want       string
	}{
		{0, 0, "containers are accelerated by default: no severe hazard is open"},
		{both, 0,
			`containers are accelerated with acceptHazards as given, which takes "acceptHazards": ["splice", "fin"]`},
		{both, both,
			`containers are NOT accelerated by default: that takes "acceptHazards": ["splice", "fin"], which is for you to decide`},
		{both, hazard.SetOf("fin"),
			`containers are NOT accelerated with acceptHazards as given: that takes "acceptHazards": ["fin"], too`},
	} {
		if got := verdict(tt.open, tt.left); got != tt.want {
			t.Errorf("%v open, %v left: %s", tt.open, tt.left, got)
		}
	}
}

func TestFindingsHaveTheStateThatCountsForContainers(t *testing.T) {
	findings := hazard.Findings{
		{Name: "splice", Present: true}, {Name: "fin", Present: true}, {Name: "zerocopy", Guarded: true},
		{Name: "eagain", Present: true}, {Name: "ktls"},
	}
	want := map[string]findingState{
		"splice": stateAccepted, "fin": statePresent, "zerocopy": stateGuarded, "eagain": statePresent,
		"ktls": stateAbsent,
	}
	got := map[string]findingState{}
	for _, v := range findingViews(findings, hazard.SetOf("splice", "fin"), hazard.SetOf("fin")) {
		got[v.Name] = v.State
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDoctorThatIsInterruptedLeavesNothing(t *testing.T) {
	m, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	interrupted := 0
	for after := 20 * time.Millisecond; after < 200*time.Millisecond; after += 20 * time.Millisecond {
		cmd := program("/nonexistent/sockmap", "doctor", "--accept-hazards", "all")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(after, "another moment of the call each time, at which it is interrupted")
		cmd.Process.Signal(os.Interrupt)
		err = cmd.Wait()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			interrupted++
		}
		own := fmt.Sprintf("sockmap-probe-%d-*", cmd.Process.Pid)
		if left, _ := filepath.Glob(filepath.Join(m.Path, own)); len(left) != 0 {
			t.Errorf("interrupted after %v, it leaves %v: %s", after, left, stderr.String())
		}
	}
	if interrupted == 0 {
		t.Error("none was interrupted")
	}
}
