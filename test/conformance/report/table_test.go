// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

func result(name, plain, accelerated string) suite.Result {
	d := suite.Difference{Name: "recv", Plain: plain, Accelerated: accelerated}
	return suite.Result{Name: name, Verdict: suite.Differs, Differences: []suite.Difference{d}}
}

func TestTablesHaveARowForEachCaseThatDiffers(t *testing.T) {
	same := suite.Result{Name: "recv/read", Verdict: suite.Same, Bulk: true,
		Carried: place.Bytes{Redirected: 99, TCP: 1}}
	one := &suite.Report{Kernel: "6.1.0-1", Accepted: true, Guards: datapath.Guards[:],
		Cases: []suite.Result{same, result("hold/cork", "5", "0"), result("zerocopy/option", "0", "EOPNOTSUPP")}}
	two := &suite.Report{Kernel: "7.3-mine", Accepted: true,
		Cases: []suite.Result{result("hold/cork", "5", "0"), result("unread/poll", "IN|ERR", "IN")}}
	got := Table([]Run{{"6.1", one}, {"host", two}})
	for _, want := range []string{
		"| 6.1 | 6.1.0-1 | " + strings.Join(datapath.Guards[:], ", ") + " | 3 | 1 | 1 | 1 |",
		"| host | 7.3 | none | 2 | 0 | 0 | 2 |",
		"| hold/cork | recv: 5 | recv: 0 | all |",
		`| unread/poll | recv: IN\|ERR | recv: IN | host |`,
		"| zerocopy/option | recv: 0 | recv: EOPNOTSUPP | 6.1 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the tables lack %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "| recv/read") || strings.Count(got, "| hold/cork |") != 1 {
		t.Errorf("the tables have rows that they should not have:\n%s", got)
	}
}

func TestTheWorstComesFirstAndRefusalsLast(t *testing.T) {
	r := &suite.Report{Accepted: true, Guards: datapath.Guards[:], Cases: []suite.Result{
		result("zerocopy/option", "0", "EOPNOTSUPP"), result("hold/cork", "5", "4"),
		result("unread/poll", "5", "0"),
		result("signal/interrupts-recv", "5", "EAGAIN"), result("recv/read", "5", "4"),
	}}
	rest := Table([]Run{{"6.1", r}})
	for _, want := range []string{
		"## Not known\n", "| recv/read", "## Fails", "| signal/interrupts-recv", "## Visible", "| unread/poll",
		"## Harmless", "| hold/cork", "## Refused", "| zerocopy/option",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("%q is missing, or not after the texts before it:\n%s", want, Table([]Run{{"6.1", r}}))
		}
		rest = after
	}
}

func TestLongValuesAreCutBetweenCharacters(t *testing.T) {
	if got, want := cell(strings.Repeat("é", 500)+"|"), strings.Repeat("é", maxCell)+" …"; got != want {
		t.Errorf("%q", got)
	}
}

func TestTableOmitsHashesAndCountsThatVary(t *testing.T) {
	const plain = "there: 6291456 bytes 20a4f43eb253"
	for value, want := range map[string]string{
		plain: "there: 6291456 bytes",
		"there: 2785280 bytes bc772e4b4500, then EAGAIN":          "there: other bytes, then EAGAIN",
		"there: 6291456 bytes 20a4f43eb253, then 5 bytes of more": "there: 6291456 bytes, then 5 bytes of more",
	} {
		if got := steady(value, plain); got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	}
}

func TestResultsAreReadForEachKernel(t *testing.T) {
	dir, document := t.TempDir(), filepath.Join(t.TempDir(), "T.md")
	if err := run(os.Stdout, []string{dir}); err == nil || !strings.Contains(err.Error(), "make test-vm") {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "6.1", "conformance"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "6.1", "conformance", "conformance.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (&suite.Report{Kernel: "6.1.0-1", Cases: []suite.Result{result("unread/under-reader", "5",
		"0")}}).WriteReport(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(document, []byte(section.Begin()+section.End()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(os.Stdout, []string{"-into", document, dir}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(document); err != nil ||
		!strings.Contains(string(text), "| 6.1 | 6.1.0-1 | none; hazards not accepted | 1 |") {
		t.Errorf("%v, %s", err, text)
	}
}
