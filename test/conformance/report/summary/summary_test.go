// SPDX-License-Identifier: Apache-2.0

package summary

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

func TestEachCaseIsCountedOnce(t *testing.T) {
	differs := func(name string) suite.Result {
		return suite.Result{Name: name, Verdict: suite.Differs}
	}
	hangs := differs("fionread/large")
	hangs.Hangs = true
	cases := []suite.Result{
		{Name: "recv/read", Verdict: suite.Same, Bulk: true, Carried: place.Bytes{Redirected: 60, TCP: 40}},
		{Name: "recv/recv", Verdict: suite.Broken},
		differs("zerocopy/option"), differs("info/bytes"), differs("hold/cork"), differs("signal/interrupts-recv"),
		hangs,
		differs("splice/proxy"), differs("recv/no-such-case"),
	}
	want := Counts{Cases: 9, Same: 1, Lesser: 2, Fails: 1, Hangs: 2, Loses: 1, Unknown: 2,
		Bulk: "more than half"}
	if got := Of(&suite.Report{Cases: cases}); got != want {
		t.Errorf("without guards: %+v, want %+v", got, want)
	}
	want.Hangs, want.Loses, want.Refused = 1, 0, 2
	if got := Of(&suite.Report{Cases: cases, Guards: datapath.Guards[:]}); got != want {
		t.Errorf("with guards: %+v, want %+v", got, want)
	}
}

func TestShareIsReportedInClasses(t *testing.T) {
	for want, carried := range map[string]place.Bytes{
		"none": {TCP: 5}, "less than half": {Redirected: 49, TCP: 51}, "more than half": {Redirected: 94, TCP: 6},
		"at least 95 %": {Redirected: 95, TCP: 5},
	} {
		r := suite.Report{Cases: []suite.Result{{Bulk: true, Carried: carried},
			{Carried: place.Bytes{Redirected: 1000}}}}
		if got := Share(&r); got != want {
			t.Errorf("%+v: %s, want %s", carried, got, want)
		}
	}
	if got := Share(&suite.Report{}); got != "none" {
		t.Errorf("without bulk: %s", got)
	}
}
