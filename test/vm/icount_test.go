// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCountingGuestHasOneProcessor(t *testing.T) {
	for _, icount := range []bool{false, true} {
		args := machine{arch: archs[0], icount: icount, qemu: countingUse}.command(t.Context()).Args
		after := func(name string) string { return args[slices.Index(args, name)+1] }
		want := map[bool]string{false: "2", true: "1"}[icount]
		if got := after("-smp"); got != want || slices.Contains(args, "-icount") != icount {
			t.Errorf("icount %v: %s processors, %q", icount, got, args)
		}
		if got := after("-cpu"); !strings.Contains(got, "-erms") {
			t.Errorf("processor %s: each byte that it copies would be an instruction", got)
		}
	}
}
