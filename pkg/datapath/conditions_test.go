// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// enumOf returns the values of an enum of bpf/abi.h by their names without the prefix, in lower case and with
// dashes, as this package names them.
func enumOf(t *testing.T, prefix string) map[string]uint64 {
	t.Helper()
	header, err := os.ReadFile(filepath.Join("..", "..", "bpf", "abi.h"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	for _, m := range regexp.MustCompile(`\b`+prefix+`_(\w+) =\s+(\d+),`).FindAllStringSubmatch(string(header),
		-1) {
		n, err := strconv.ParseUint(m[2], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		values[strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")] = n
	}
	return values
}

// checkRows compares a table with its enum, and expects every text.
func checkRows[Number Reason | Result](t *testing.T, prefix string, rows []Condition[Number]) {
	t.Helper()
	want, got := enumOf(t, prefix), map[string]uint64{}
	delete(want, "none")
	for _, row := range rows {
		if _, twice := got[row.Name]; twice {
			t.Errorf("%s has two rows", row.Name)
		}
		got[row.Name] = uint64(row.Number)
		if row.Question == "" || row.Meaning == "" || row.Change == "" {
			t.Errorf("a text is missing: %+v", row)
		}
		if !strings.HasSuffix(row.Question, "?") || strings.HasSuffix(row.Meaning, ".") ||
			strings.HasSuffix(row.Change, ".") {
			t.Errorf("a question ends in ?, the other texts are clauses without a full stop: %+v", row)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("enum %s_* of bpf/abi.h (-) and its table in this package (+) differ: %s", prefix, diff)
	}
}

func TestEveryReasonAndResultOfTheProgramsHasItsRow(t *testing.T) {
	checkRows(t, "REASON", ReasonTable[:])
	checkRows(t, "RESULT", ResultTable[:])
	if got := len(Reasons()); got != len(ReasonTable) {
		t.Errorf("%d reasons are listed, %d have a row", got, len(ReasonTable))
	}
	if got := len(Results()); got != len(ResultTable) {
		t.Errorf("%d results are listed, %d have a row", got, len(ResultTable))
	}
}
