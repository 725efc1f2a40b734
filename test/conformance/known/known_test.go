// SPDX-License-Identifier: Apache-2.0

package known

import (
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/cases"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestEveryExpectationIsOfACaseAndHasAReason(t *testing.T) {
	all := map[string]bool{}
	for _, c := range append(cases.Kernel(), cases.Programs()...) {
		all[c.Name] = true
	}
	used := map[string]bool{}
	for name, reasons := range expected {
		if !all[name] {
			t.Errorf("there is no case %s", name)
		}
		for _, r := range reasons {
			used[r] = true
			if _, ok := reasonOf(r); !ok {
				t.Errorf("%s: there is no reason %s", name, r)
			}
		}
	}
	for _, r := range reasons {
		used[r.Then] = true
	}
	for _, r := range reasons {
		if !used[r.Name] {
			t.Errorf("no case has the reason %s", r.Name)
		}
	}
}

func TestReasonsNameGuardsAndHazardsThatExist(t *testing.T) {
	for _, r := range reasons {
		if r.Guard != "" && !slices.Contains(datapath.Guards[:], r.Guard) {
			t.Errorf("%s: there is no guard %s", r.Name, r.Guard)
		}
		if _, ok := reasonOf(r.Then); r.Then != "" && !ok {
			t.Errorf("%s: there is no reason %s", r.Name, r.Then)
		}
		known := slices.ContainsFunc(hazard.Table[:], func(h hazard.Hazard) bool { return h.Name == r.Hazard })
		if r.Hazard != "" && !known {
			t.Errorf("%s: there is no hazard %s", r.Name, r.Hazard)
		}
	}
}

func TestReportIsJudgedByTheKnownDifferences(t *testing.T) {
	differs := func(name string) suite.Result {
		d := []suite.Difference{{Name: "recv", Plain: "5", Accelerated: "4"}}
		return suite.Result{Name: name, Verdict: suite.Differs, Differences: d}
	}
	hangs, loses := differs("info/bytes"), differs("info/bytes")
	hangs.Hangs, loses.Loses = true, true
	splice := differs("splice/proxy")
	splice.Loses = true
	unengaged := suite.Result{Name: "recv/read", Verdict: suite.Same, Unengaged: true}
	yields := unengaged
	yields.Yields = "MSG_WAITALL"
	late, start := differs("waitall/large"), differs("waitall/large-from-the-start")
	accepted := suite.Report{Accepted: true}
	guarded := suite.Report{Accepted: true, Guards: datapath.Guards[:]}
	for name, tt := range map[string]struct {
		report suite.Report
		result suite.Result
		want   string // part of the failure; empty: none
	}{
		"the same": {accepted, suite.Result{Name: "recv/read", Verdict: suite.Same},
			""},
		"a difference that is known":        {accepted, differs("info/bytes"), ""},
		"one that is not":                   {accepted, differs("recv/read"), "is not known to"},
		"a hang where a look is known":      {accepted, hangs, "worse than known"},
		"a loss where a look is known":      {accepted, loses, "worse than known"},
		"a loss that is known":              {accepted, splice, ""},
		"the same loss under a guard":       {guarded, splice, "although the guard splice runs"},
		"a refusal that the guard brings":   {guarded, differs("splice/proxy"), ""},
		"what a guard knows too late":       {guarded, late, ""},
		"the same where it knows in time":   {guarded, start, "although the guard observe runs"},
		"and without the guard":             {accepted, start, ""},
		"a loss where nothing was accepted": {suite.Report{}, splice, "although no hazard was accepted"},
		"a hang where nothing was accepted": {suite.Report{}, hangs, "although no hazard was accepted"},
		"a case that could not be run": {accepted, suite.Result{Verdict: suite.Broken, Error: "no nginx"},
			"no nginx"},
		"a case that is not steady":     {accepted, suite.Result{Verdict: suite.Unsteady}, "same twice"},
		"a case that did not engage":    {accepted, unengaged, "not one byte"},
		"one that a guard keeps on TCP": {guarded, yields, ""},
		"the same without a guard":      {accepted, yields, "not one byte"},
		"a difference between plain and plain": {suite.Report{Accepted: true, Control: true}, differs("info/bytes"),
			"plain TCP alone"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.report.Cases = []suite.Result{tt.result}
			got := strings.Join(Failures(&tt.report), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("failures %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTalliesCountByReasonAndRefusalsApart(t *testing.T) {
	r := suite.Report{Accepted: true, Guards: []string{datapath.GuardSplice}}
	for _, name := range []string{"info/bytes", "splice/proxy", "info/segments", "splice/partial", "recv/read",
		"hold/cork"} {
		r.Cases = append(r.Cases, suite.Result{Name: name, Verdict: suite.Differs})
	}
	r.Cases = append(r.Cases, suite.Result{Name: "info/last-data", Verdict: suite.Same})
	Explain(&r)
	all := Tallies(&r)
	want := []Tally{
		{Reason: "info", Effect: Visible, Cases: 2}, {Cases: 1}, {Reason: "no-nagle", Effect: Harmless, Cases: 1},
		{Reason: "splice-refused", Effect: Harmless, Refusal: true, Cases: 2},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("tallies (-want +got):\n%s", diff)
	}
	if cases, reasons := Sum(all, false); cases != 4 || reasons != 3 {
		t.Errorf("%d cases by %d reasons besides refusals, want 4 by 3", cases, reasons)
	}
}

func TestAReportWithoutCasesFails(t *testing.T) {
	if len(Failures(&suite.Report{Accepted: true})) == 0 {
		t.Error("nothing was run, and nothing failed")
	}
}
