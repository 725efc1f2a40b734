// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestTroublesAreQuotedCompletely(t *testing.T) {
	const warning = `[   10.1] ------------[ cut here ]------------
[   10.1] WARNING: CPU: 1 PID: 77 at net/core/stream.c:212 sk_stream_kill_queues+0x1/0x2
[   10.1] Modules linked in: tls
[   10.1]  <TASK>
[   10.1] ---[ end trace 0000000000000000 ]---
`
	const panicked = `[   20.1] Kernel panic - not syncing: Fatal exception
[   20.1] CPU: 0 PID: 1 Comm: x
[   20.1]  dump_stack+0x1
[   20.1] Rebooting in 1 seconds..
`
	for _, tt := range []struct {
		name  string
		texts []string
		want  []string // the first lines, without their time
		last  string   // of the first complaint
	}{
		{"a warning with its backtrace", []string{warning + "[   11.0] later\n"},
			[]string{"WARNING: CPU: 1 PID: 77 at net/core/stream.c:212 sk_stream_kill_queues+0x1/0x2"},
			"---[ end trace 0000000000000000 ]---"},
		{"a panic without end mark", []string{panicked},
			[]string{"Kernel panic - not syncing: Fatal exception"}, " dump_stack+0x1"},
		{"the same on the console", []string{warning, strings.ReplaceAll(warning, "10.1]",
			"10.123456][  T77]") + panicked},
			[]string{"WARNING: CPU: 1 PID: 77 at net/core/stream.c:212 sk_stream_kill_queues+0x1/0x2",
				"Kernel panic - not syncing: Fatal exception"},
			"---[ end trace 0000000000000000 ]---"},
		{"one line each",
			[]string{"[ 1.0] refcount_t: underflow; use-after-free.\n[ 1.1] BUG: kernel NULL pointer dereference\n"},
			[]string{"refcount_t: underflow; use-after-free.", "BUG: kernel NULL pointer dereference"},
			"refcount_t: underflow; use-after-free."},
		{"others by name",
			[]string{"BUG: KASAN: slab-use-after-free in x\nwatchdog: BUG: soft lockup - CPU#0\nrcu: INFO: rcu_sched self-detected stall\n"},
			[]string{"BUG: KASAN: slab-use-after-free in x", "watchdog: BUG: soft lockup - CPU#0",
				"rcu: INFO: rcu_sched self-detected stall"},
			"BUG: KASAN: slab-use-after-free in x"},
		{"advice and reassurance", []string{
			"[ 0.1] Spectre V2 : WARNING: Unprivileged eBPF is enabled\n[ 0.2] RCU CPU stall warnings timeout set to 60\n" +
				"[ 0.3] PCI: if necessary, use \"pci=nocrs\" and report a bug\n[ 0.4] DEBUG: x\n"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var first []string
			got := troubles(tt.texts...)
			for _, quoted := range got {
				line, _, _ := strings.Cut(quoted, "\n")
				first = append(first, stamp.ReplaceAllString(line, ""))
			}
			if diff := cmp.Diff(tt.want, first); diff != "" {
				t.Fatal(diff)
			}
			if len(got) > 0 && stamp.ReplaceAllString(tail(got[0], 1), "") != tt.last {
				t.Errorf("the quotation ends with %q", tail(got[0], 1))
			}
		})
	}
}
