// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

const doctorSays = `{"hazards": [{"name": "splice", "state": "accepted", "severity": "severe"}, {"name": "eagain", "state": "present", "severity": "minor"}],
	"guards": [{"name": "splice", "active": false, "hook": "", "why": "EPERM"}, {"name": "options", "active": true, "hook": "cgroup/setsockopt"}]}
a line of its standard error`

func TestDoctorIsComparedWithTheListOfKernels(t *testing.T) {
	for _, tt := range []struct{ name, says, guards, open, want string }{
		{"as in the list", doctorSays, "options", "splice", ""},
		{"a guard that does not load", doctorSays, "options,splice", "splice",
			"the guard splice does not run, although kernels.txt wants it for kernel x: EPERM"},
		{"a guard that is not there", doctorSays, "observe", "splice", "there is no guard observe"},
		{"a hazard that is new", doctorSays, "options", "", "kept on TCP by splice, but kernels.txt says nothing"},
		{"a hazard that is gone", doctorSays, "options", "splice,ktls", "kernels.txt says ktls, splice"},
		{"an empty answer", "{}", "", "", "0 hazards and 0 guards"},
		{"an error", "sockmapctl: no", "", "", "parse its output"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &result{Name: doctorProgram, Status: &frame.Status{}}
			r.output.WriteString(tt.says)
			split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
			o := &outcome{Programs: []*result{r}, finished: true}
			o.examine(&kernel.Wanted{Name: "x", Guards: split(tt.guards), Open: split(tt.open)})
			got := strings.Join(o.Problems, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || o.OK() != (tt.want == "") {
				t.Errorf("ok %v, problems %q, want %q", o.OK(), got, tt.want)
			}
		})
	}
}

func TestAcceptedHazardsAreOpen(t *testing.T) {
	var f facts
	if err := f.readDoctor(doctorSays); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"splice"}, f.Open); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultRunAgreesWithTheOpenHazards(t *testing.T) {
	carried := func(n uint64) *suite.Report {
		return &suite.Report{Cases: []suite.Result{{Carried: place.Bytes{Redirected: n}}}}
	}
	accepted := carried(5)
	accepted.Accepted = true
	found, reason := []finding{{Name: "splice"}}, "nothing is accelerated: this kernel has splice, ktls\n"
	open := facts{Hazards: found, Open: []string{"splice", "ktls"}}
	for name, tt := range map[string]struct {
		facts  facts
		report *suite.Report
		output string
		want   string
	}{
		"none open":                  {facts{Hazards: found}, carried(5), "", ""},
		"none open, and all refused": {facts{Hazards: found}, carried(0), "", "nothing was redirected"},
		"refused":                    {open, carried(0), reason, ""},
		"refused for no reason": {open, carried(0), "nothing is accelerated: this kernel has splice\n",
			"is not given"},
		"open, and accelerated": {open, carried(5), reason,
			"5 bytes were redirected, although splice, ktls is open"},
		"no case":          {open, &suite.Report{}, reason, "0 cases"},
		"hazards accepted": {facts{Hazards: found}, accepted, "", "hazards accepted: true"},
		"no doctor":        {facts{}, carried(5), "", "has not reported"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.facts.checkDefault(tt.report, tt.output)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
