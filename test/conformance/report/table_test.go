// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

func result(name, plain, accelerated string) suite.Result {
	d := suite.Difference{Name: "recv", Plain: plain, Accelerated: accelerated}
	return suite.Result{Name: name, Verdict: suite.Differs, Differences: []suite.Difference{d}}
}

func TestTableHasARowForEachCaseThatDiffers(t *testing.T) {
	same := suite.Result{Name: "recv/read", Verdict: suite.Same, Bulk: true, Carried: place.Bytes{Redirected: 99, TCP: 1}}
	one := &suite.Report{Kernel: "6.1", Site: "loopback", Accepted: true, Cases: []suite.Result{same, result("info/bytes", "5", "0")}}
	two := &suite.Report{Kernel: "7.3", Site: "pods", Accepted: true, Cases: []suite.Result{result("info/bytes", "5", "0"), result("unread/poll", "IN|ERR", "IN")}}
	got := Table([]*suite.Report{one, two})
	for _, want := range []string{
		"| 1 | 6.1, loopback, no guards | 2 | 1 | 1 | at least 95 % |",
		"| info/bytes | recv: 5 | recv: 0 | visible |",
		"| 1, 2 |",
		`| unread/poll | recv: IN\|ERR | recv: IN | visible |`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "recv/read") || strings.Count(got, "| info/bytes |") != 1 {
		t.Errorf("the table has rows that it should not have:\n%s", got)
	}
}

func TestUnknownDifferencesComeFirst(t *testing.T) {
	r := &suite.Report{Accepted: true, Cases: []suite.Result{result("info/bytes", "5", "0"), result("recv/read", "5", "4")}}
	got := Table([]*suite.Report{r})
	if unknown, visible := strings.Index(got, "| recv/read"), strings.Index(got, "| info/bytes"); unknown < 0 || unknown > visible {
		t.Errorf("what nobody knows does not come first:\n%s", got)
	}
}

func TestReplaceKeepsTheRestOfTheDocument(t *testing.T) {
	got, err := Replace("above\n"+begin+"old\n"+end+"below\n", "new\n")
	if want := "above\n" + begin + "new\n" + end + "below\n"; err != nil || got != want {
		t.Errorf("replaced to %q, %v; want %q", got, err, want)
	}
	if _, err := Replace("no marks", "new"); err == nil {
		t.Error("a document without the marked lines was accepted")
	}
}
