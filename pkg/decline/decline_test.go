// SPDX-License-Identifier: Apache-2.0

package decline

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// TestNumbersNamesAndCodesAreAnABI: pinned records have the numbers, dashboards have the names, and errors of
// a runtime have the codes. None of them may change, so they are written here a second time.
func TestNumbersNamesAndCodesAreAnABI(t *testing.T) {
	type row struct {
		Number uint32
		Name   string
		Code   uint
	}
	want := []row{
		{1, "opted-out", 101}, {2, "hazards", 102}, {3, "kernel", 103}, {4, "permission", 104},
		{5, "load", 105}, {6, "foreign-state", 106}, {7, "bpffs", 107}, {8, "cgroup", 108},
		{9, "cgroup-path", 7}, {10, "too-many-programs", 110}, {11, "exclusive-program", 111},
		{12, "neighbour", 112}, {13, "map-full", 113}, {14, "resources", 114}, {15, "netns", 8},
		{16, "busy", 11}, {17, "other", 999}, {18, "link-gone", 118}, {19, "endpoint-gone", 119},
		{20, "opted-out-elsewhere", 120}, {21, "unrecorded", 121}, {22, "disabled", 122},
		{23, "not-loaded", 123}, {24, "switched-off", 124},
	}
	var got []row
	for _, r := range All() {
		got = append(got, row{uint32(r), r.String(), r.Code()})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons changed (-want +got), only new ones may come:\n%s", diff)
	}
}

func TestReasonsHaveUniqueNamesAndCodes(t *testing.T) {
	names, codes := map[string]Reason{}, map[uint]Reason{}
	for _, r := range All() {
		if r.String() == "" || r.Meaning() == "" {
			t.Errorf("reason %d lacks its name or its meaning", r)
		}
		if other, taken := names[r.String()]; taken {
			t.Errorf("%d and %d are both called %s", r, other, r)
		}
		if other, taken := codes[r.Code()]; taken {
			t.Errorf("%s and %s have the same code %d", r, other, r.Code())
		}
		names[r.String()], codes[r.Code()] = r, r
	}
}

func TestUnknownReasonsHaveANameAndACode(t *testing.T) {
	if None.String() != "" || None.Code() != 0 || None.Meaning() != "" {
		t.Errorf("no reason is %q, code %d, %q", None.String(), None.Code(), None.Meaning())
	}
	newer := Reason(300)
	if newer.String() != "number-300" || newer.Code() != 400 || newer.Meaning() != "" {
		t.Errorf("an unknown number is %q, code %d, %q", newer.String(), newer.Code(), newer.Meaning())
	}
}
