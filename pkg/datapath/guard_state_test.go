// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEveryGuardIsActiveOrHasAReason(t *testing.T) {
	states, err := load(t, guarded).GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	if len(states) != len(Guards) {
		t.Fatalf("%d states of %d guards", len(states), len(Guards))
	}
	for i, s := range states {
		t.Logf("%+v", s)
		if s.Name != Guards[i] || s.Active != (s.Hook != "") || s.Active != (s.Why == "") || s.SwitchedOff() {
			t.Errorf("%+v", s)
		}
		// A refusal names the program that the kernel did not take.
		if !s.Active && !strings.Contains(s.Why, "guard") {
			t.Errorf("the reason is not the kernel's: %+v", s)
		}
	}
}

func TestDisabledGuardsAreReportedAsSwitchedOff(t *testing.T) {
	for _, off := range Guards {
		s := guarded
		s.WithoutGuards = []string{off}
		states, err := load(t, s).GuardStates()
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range states {
			if g.SwitchedOff() != (g.Name == off) && !(g.Name == GuardBlocking && off == GuardObserve) || g.Active &&
				g.Name == off {
				t.Errorf("without %s: %+v", off, g)
			}
		}
	}
}

func TestLongReasonsAreCutToOneLine(t *testing.T) {
	pin := newStateDir(t) + "/splice"
	if err := pinReason(pin, errors.New("refused:\n\tR0 is …"+strings.Repeat("é", 5000))); err != nil {
		t.Fatal(err)
	}
	got, err := os.Readlink(pin + reasonSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if utf8.RuneCountInString(got) != maxReason || !strings.HasPrefix(got, "refused: R0 is …é") ||
		!strings.HasSuffix(got, "é…") {
		t.Errorf("got %q", got)
	}
}
