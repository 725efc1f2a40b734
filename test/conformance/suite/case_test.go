// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestCompareMatchesRepeatedNamesInOrder(t *testing.T) {
	plain := []Observation{{Name: "send", Value: "5"}, {Name: "recv", Value: "3"}, {Name: "recv", Value: "2"}}
	accelerated := []Observation{{Name: "recv", Value: "3"}, {Name: "recv", Value: "EAGAIN"},
		{Name: "end", Value: "0"}}
	want := []Difference{
		{Name: "send", Plain: "5"},
		{Name: "recv", Plain: "2", Accelerated: "EAGAIN"},
		{Name: "end", Accelerated: "0"},
	}
	if diff := cmp.Diff(want, compare(plain, accelerated)); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if got := compare(plain, plain); len(got) > 0 {
		t.Errorf("a list differs from itself: %v", got)
	}
}

func TestDifferencesAreClassifiedAsHangsAndLosses(t *testing.T) {
	for name, tt := range map[string]struct {
		plain, accelerated Observation
		hangs, loses       bool
	}{
		"another value":              {Observation{Value: "5"}, Observation{Value: "3"}, false, false},
		"a call that blocks":         {Observation{Value: "5"}, Observation{Value: "blocks"}, true, false},
		"one that blocks less":       {Observation{Value: "blocks"}, Observation{Value: "5"}, false, false},
		"other bytes":                {stream("abc"), stream("abd"), false, true},
		"no bytes":                   {stream("abc"), stream(`""`), false, true},
		"bytes that are late":        {stream("abc"), stream("ab, then blocks"), true, false},
		"bytes that end in an error": {stream("abc"), stream("ab, then EAGAIN"), false, false},
		"bytes that end too early":   {stream("abc"), stream(`ab, then 0 ""`), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			diffs := compare([]Observation{tt.plain}, []Observation{tt.accelerated})
			if got := hangs(diffs); got != tt.hangs {
				t.Errorf("hangs %v", got)
			}
			if got := loses(diffs); got != tt.loses {
				t.Errorf("loses data %v", got)
			}
		})
	}
}

func stream(value string) Observation {
	return Observation{Name: "received", Value: value, Stream: true}
}

func TestValuesDoNotDependOnTime(t *testing.T) {
	const limit = 1000
	for want, r := range map[string]Ret{
		"blocks":         {N: -1, Errno: unix.EAGAIN, Took: 990, limit: limit},
		"EAGAIN":         {N: -1, Errno: unix.EAGAIN, Took: 10, limit: limit},
		"ECONNRESET":     {N: -1, Errno: unix.ECONNRESET, Took: 990, limit: limit},
		`5 "hello"`:      {N: 5, Data: []byte("hello"), Took: 10},
		endOfStream:      {N: 0, Data: []byte{}},
		"7":              {N: 7},
		"1 1 bytes 6e34": {N: 1, Data: []byte{0}},
	} {
		if got := r.String(); got != want && !strings.HasPrefix(got, want) {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
}
