// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"
)

func TestProcessorsTakeTurnsWhereThreadsRunStaleCode(t *testing.T) {
	for version, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n":    "tcg,thread=single",
		"QEMU emulator version 8.2.0\n":                           "tcg,thread=single",
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n":   "tcg,thread=multi",
		"something else that calls itself qemu-system-x86_64 9\n": "tcg,thread=single",
	} {
		if got := acceleratorOf(version); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}

func TestTheReasonOfAnEndIsTheFirstCause(t *testing.T) {
	limit, killed, garbled := errors.New("over its limit"), errors.New("signal: killed"), errors.New("read frames: x")
	for _, tt := range []struct {
		limit, emulator, reading error
		want                     string
	}{
		{limit, killed, nil, "over its limit"},
		{nil, killed, nil, "signal: killed\nno such machine"},
		{nil, nil, garbled, "read frames: x"},
		{nil, nil, nil, "it turned itself off"},
	} {
		if got := ended(tt.limit, tt.emulator, tt.reading, "no such machine\n"); got != tt.want {
			t.Errorf("%v, %v, %v: %q, want %q", tt.limit, tt.emulator, tt.reading, got, tt.want)
		}
	}
}

func TestTailIsTheLastLines(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc"},
		{"a", 2, "a"},
		{"", 2, ""},
	} {
		if got := tail(tt.text, tt.n); got != tt.want {
			t.Errorf("the last %d of %q: %q", tt.n, tt.text, got)
		}
	}
}
