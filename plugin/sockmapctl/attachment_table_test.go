// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAttachmentsAreSortedByEachKey(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	all := []attachmentView{
		{
			Namespace: "shop", Pod: "web-0", Container: "b", Interface: "eth0", Network: "pods", NetNSCookie: 7,
			CgroupPath: "/b", State: "declined", Sockets: 2, TCPBytes: 500, Created: noon,
		},
		{
			Namespace: "data", Pod: "db-0", Container: "c", Interface: "net1", Network: "storage", NetNSCookie: 8,
			CgroupPath: "/c", State: "opted-out", Sockets: 9, RedirectedBytes: 10, Created: noon.Add(-time.Hour),
		},
		{
			Namespace: "shop", Pod: "web-1", Container: "a", Interface: "eth0", Network: "pods", NetNSCookie: 9,
			CgroupPath: "/a", State: "accelerated", RedirectedBytes: 900, Created: noon.Add(time.Hour),
		},
		{Namespace: "shop", Pod: "old-0", Container: "d", Interface: "eth1", Network: "x", CgroupPath: "/d",
			State: "x"},
	}
	wants := map[string]string{
		"pod": "db-0 old-0 web-0 web-1", "container": "web-1 web-0 db-0 old-0",
		"interface": "web-0 web-1 old-0 db-0",
		"network":   "web-0 web-1 db-0 old-0", "cgroup": "web-1 web-0 db-0 old-0",
		"state": "web-1 web-0 db-0 old-0",
		"netns": "web-1 db-0 web-0 old-0", "sockets": "db-0 web-0 old-0 web-1",
		"redirected": "web-1 db-0 old-0 web-0",
		"tcp":        "web-0 db-0 old-0 web-1", "age": "db-0 web-0 web-1 old-0",
	}
	for _, key := range attachmentOrder.Names() {
		some := slices.Clone(all)
		attachmentOrder.Sort(some, key)
		var pods []string
		for _, v := range some {
			pods = append(pods, v.Pod)
		}
		if got := strings.Join(pods, " "); got != wants[key] {
			t.Errorf("--sort-by %s: %s, want %s", key, got, wants[key])
		}
	}
}
