// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// What it does in a cluster is tested in pkg/daemonset, and with a real one in test/cluster.
func TestUninstallNodesNamesWhatIsMissing(t *testing.T) {
	n := newTestNode(t)
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{nil, exitUsage, "not namespace/name"},
		{[]string{"--daemonset", "kube-system/sockmap-cni/x"}, exitUsage, "not namespace/name"},
		{[]string{"--daemonset", "kube-system/sockmap-cni", "--timeout", "-1s"}, exitUsage, "not positive"},
		{[]string{"--daemonset", "kube-system/sockmap-cni"}, exitError, "this is not a pod"},
	} {
		r := n.run(t, append([]string{"uninstall-nodes"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.text) {
			t.Errorf("%q: exit code %d, %q; want %d, %q", c.args, r.code, r.stderr, c.code, c.text)
		}
	}
}
