// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"
)

func TestEmulatorWithFaultsRunsOneThread(t *testing.T) {
	careful, plain := qemu{"tcg,thread=single", "max", true}, qemu{"tcg,thread=multi", "max", false}
	for version, want := range map[string]qemu{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n":    careful,
		"QEMU emulator version 8.2.0\n":                           careful,
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n":   plain,
		"something else that calls itself qemu-system-x86_64 9\n": careful,
	} {
		if got := useOf(version); got != want {
			t.Errorf("%q: %+v, want %+v", version, got, want)
		}
	}
}

func TestCmpxchg16bIsHiddenOnlyFromKernelsThatBootWithoutIt(t *testing.T) {
	for _, tt := range []struct {
		careful       bool
		version, want string
	}{
		{true, "6.1.192-2", "max,-cx16"},
		{true, "6.12.117-1", "max,-cx16"},
		{true, "7.3.4-1~bpo13+1", "max"},
		{false, "6.12.117-1", "max"},
	} {
		if got := (qemu{processor: "max", careful: tt.careful}).processorFor(tt.version); got != tt.want {
			t.Errorf("kernel %s, careful %v: %s, want %s", tt.version, tt.careful, got, tt.want)
		}
	}
}

func TestEndOfAGuestNamesTheFirstCause(t *testing.T) {
	limit, killed, garbled := errors.New("over its limit"), errors.New("signal: killed"),
		errors.New("read frames: x")
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
