// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"golang.org/x/sys/unix"
)

// noteAvoided writes what an observer would: struct listening_port and struct avoided of bpf/abi.h, just now.
func noteAvoided(t *testing.T, n *testNode, netns uint64, port uint16) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(n.dir, fmt.Sprintf("v%d", datapath.ABI), "avoid"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	key := struct {
		NetNS uint64
		Port  uint16
		Pad   [3]uint16
	}{NetNS: netns, Port: port}
	value := struct {
		NotedNS uint64
		Habits  uint32
		Pad     uint32
	}{NotedNS: uint64(now.Nano()), Habits: 1} // HABIT_WAITALL
	if err := m.Put(key, value); err != nil {
		t.Fatal(err)
	}
}

func TestAvoidedEntriesAreListedAndForgotten(t *testing.T) {
	n, _ := podNode(t)
	var attachments []attachmentView
	n.read(t, &attachments, "attachments")
	netns := attachments[0].NetNSCookie
	for _, port := range []uint16{80, 5432, 9000} {
		noteAvoided(t, n, netns, port)
	}
	var views []avoidedView
	n.read(t, &views, "avoided")
	if len(views) != 3 || views[1].Port != 5432 || views[1].Pod == "" || views[1].NetNSCookie != netns ||
		views[1].Destination != "" ||
		len(views[1].Why) != 1 || views[1].Why[0] != datapath.ReasonWaitall.String() ||
		views[1].SecondsLeft < 500 || views[1].SecondsLeft > 600 {
		t.Fatalf("%+v", views)
	}
	table := n.ok(t, "avoided")
	row := views[1].Namespace + "/" + views[1].Pod + ` +5432 +- +waitall +9m\d+s\n`
	if !strings.HasPrefix(table, "POD") || !regexp.MustCompile(row).MatchString(table) {
		t.Errorf("table:\n%s", table)
	}
	for _, tt := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--port", "81"}, "nothing to forget\n"},
		{[]string{"--pod", "nobody/nothing-0"}, "nothing to forget\n"},
		{[]string{"--pod", views[1].Pod, "--port", "5000-6000"},
			"forgot 1 entry; later connections are redirected again\n"},
		{nil, "forgot 2 entries; later connections are redirected again\n"},
		{nil, "nothing to forget\n"},
	} {
		if said := n.ok(t, append([]string{"forget"}, tt.flags...)...); said != tt.says {
			t.Errorf("forget %v says %q, want %q", tt.flags, said, tt.says)
		}
	}
	if table := n.ok(t, "avoided", "--no-headers"); table != "" {
		t.Errorf("left is %q", table)
	}
}
