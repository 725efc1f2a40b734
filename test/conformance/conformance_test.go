// SPDX-License-Identifier: Apache-2.0

// Package conformance has the tests that run the whole suite. Its parts are in the directories below;
// cmd/conformance runs it from the command line.
package conformance

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/cases"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

var (
	programs = flag.Bool("programs", true,
		"run the cases that need programs, which fail where these are missing")
	places = flag.String("places", "loopback", "where to run the suite, separated by commas; all: everywhere")
	scale  = flag.Float64("scale", 1, "stretch all times by this factor, on slow machines")
)

func TestMain(m *testing.M) {
	probe.Main()
	place.RunMaker()
	cases.RunChild()
	fixture.Main(m)
}

func allCases() []suite.Case {
	list := cases.Kernel()
	if *programs {
		list = append(list, cases.Programs()...)
	}
	return list
}

func openSite(t *testing.T, kind string, o place.Options) place.Site {
	t.Helper()
	o.Log = os.Stderr
	site, err := place.Open(t.Context(), kind, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Close(); err != nil {
			t.Errorf("close place: %v", err)
		}
	})
	return site
}

func runSuite(t *testing.T, r suite.Runner, list []suite.Case) *suite.Report {
	t.Helper()
	r.Workers, r.Scale = 4, *scale
	report, err := r.Run(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s at %s, guards %v: %d cases in %.0f s, %d the same, %d differ", report.Kernel, report.Site,
		report.Guards,
		len(report.Cases), report.Seconds, report.Count(suite.Same), report.Count(suite.Differs))
	return report
}

func wantNoFailures(t *testing.T, report *suite.Report) {
	t.Helper()
	for _, f := range known.Failures(report) {
		t.Error(f)
	}
}

func everywhere() []string {
	if *places == "all" {
		return place.Names()
	}
	return strings.Split(*places, ",")
}

func TestDifferencesAreKnownWithoutGuards(t *testing.T) { accepted(t, false) }

func TestDifferencesAreKnownWithGuards(t *testing.T) { accepted(t, true) }

func accepted(t *testing.T, guards bool) {
	for _, kind := range everywhere() {
		t.Run(kind, func(t *testing.T) {
			site := openSite(t, kind, place.Options{Guards: guards, AcceptHazards: true})
			wantNoFailures(t, runSuite(t, suite.Runner{Site: site, Accepted: true}, allCases()))
		})
	}
}

func TestNothingIsLostOrHangsByDefault(t *testing.T) {
	for _, kind := range everywhere() {
		t.Run(kind, func(t *testing.T) {
			site := openSite(t, kind, place.Options{Guards: true})
			wantNoFailures(t, runSuite(t, suite.Runner{Site: site}, allCases()))
		})
	}
}

func TestPlainTCPDoesNotDifferFromItself(t *testing.T) {
	site := openSite(t, "loopback", place.Options{AcceptHazards: true})
	wantNoFailures(t, runSuite(t, suite.Runner{Site: site, Accepted: true, Control: true}, cases.Kernel()))
}

func TestNamesAreUniqueAndHaveAFamily(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range append(cases.Kernel(), cases.Programs()...) {
		if family, behaviour, ok := strings.Cut(c.Name, "/"); !ok || family == "" || behaviour == "" ||
			seen[c.Name] {
			t.Errorf("%q is no name, or there is another", c.Name)
		}
		if seen[c.Name] = true; c.Run == nil {
			t.Errorf("%s has nothing to run", c.Name)
		}
	}
	if len(seen) < 130 {
		t.Errorf("there are %d cases, want at least 130", len(seen))
	}
}

// find returns the result of a case that was run.
func find(t *testing.T, r *suite.Report, name string) suite.Result {
	t.Helper()
	for _, c := range r.Cases {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no result of %s", name)
	return suite.Result{}
}

// named picks cases.
func named(t *testing.T, names ...string) (list []suite.Case) {
	t.Helper()
	for _, c := range cases.Kernel() {
		for _, name := range names {
			if c.Name == name {
				list = append(list, c)
			}
		}
	}
	if len(list) != len(names) {
		t.Fatalf("found %d cases of %s", len(list), fmt.Sprint(names))
	}
	return list
}
