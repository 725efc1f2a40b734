// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// module makes a module of the kernel appear, with this parameter `ports`.
func (n *testNode) module(t *testing.T, name, ports string) {
	t.Helper()
	dir := filepath.Join(n.files, "sys/module", name, "parameters")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if ports == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "ports"), []byte(ports+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
}

func statusLine(t *testing.T, n *testNode, label string) string {
	t.Helper()
	for line := range strings.Lines(n.ok(t, "status")) {
		if strings.HasPrefix(line, label) {
			return strings.Join(strings.Fields(line)[1:], " ")
		}
	}
	t.Errorf("status has no line %s", label)
	return ""
}

func TestStatusNamesConntrackHelpers(t *testing.T) {
	n := newTestNode(t)
	n.module(t, "nf_conntrack_ftp", "21,2121")
	n.module(t, "nf_nat_ftp", "")
	n.ok(t, "load")
	const ftp = "ftp 21+2121 (nf_conntrack_ftp, nf_nat_ftp)"
	if got := statusLine(t, n, "helpers"); got != "ports 21, 2121 stay on TCP for "+ftp {
		t.Error(got)
	}
	n.module(t, "nf_conntrack_sip", "all")
	want := "ports 21, 2121 stay on TCP for " + ftp +
		`, sip 5060 (nf_conntrack_sip; its ports cannot be read: "all"); that is from before, ` +
		"and the next ADD or the agent changes it"
	if got := statusLine(t, n, "helpers"); got != want {
		t.Error(got)
	}
	var s statusView
	n.read(t, &s, "status")
	if diff := cmp.Diff(helpersView{
		Ports: []string{"21", "2121"}, Stale: true, Found: []helperView{
			{"ftp", []string{"nf_conntrack_ftp", "nf_nat_ftp"}, []string{"21", "2121"}, ""},
			{"sip", []string{"nf_conntrack_sip"}, []string{"5060"}, `its ports cannot be read: "all"`},
		},
	}, s.Node.Helpers); diff != "" {
		t.Error(diff)
	}
	n.ok(t, "load") // as an ADD would
	if got := statusLine(t, n, "helpers"); !strings.HasPrefix(got, "ports 21, 2121, 5060 stay on TCP for ") ||
		strings.Contains(got, "from before") {
		t.Error(got)
	}
	if err := os.RemoveAll(filepath.Join(n.files, "sys/module")); err != nil {
		t.Fatal(err)
	}
	n.ok(t, "load")
	if got := statusLine(t, n, "helpers"); !strings.Contains(got,
		"1720, 1723, 5060, 6566, 6667 stay on TCP for ftp 21 (cannot be read: no such file or directory)") {
		t.Error(got)
	}
}
