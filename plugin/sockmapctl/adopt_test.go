// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// If nothing can be adopted, the error names the cause and the way out, and there is no output that looks
// like a result.
func TestAdoptNamesWhatIsMissing(t *testing.T) {
	n := newLoadedNode(t)
	confDir, empty := t.TempDir(), t.TempDir()
	list := `{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "sockmap", "bpffsPath": "` + n.dir + `"}]}`
	if err := os.WriteFile(filepath.Join(confDir, "10-net.conflist"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--cni-conf-dir", confDir}, exitUsage, "name pods, or give --all"},
		{[]string{"web", "--all"}, exitUsage, "name pods, or give --all"},
		{[]string{"--all", "--cni-conf-dir", empty}, exitError,
			"no network in " + empty + " has sockmap in its list"},
		{[]string{"web", "--cri", "none", "--cni-conf-dir", confDir, "--cni-cache-dir", empty}, exitError,
			`no pod "web" runs on this node`},
		{[]string{"--all", "--cri", empty + "/sock", "--cni-conf-dir", confDir, "--cni-cache-dir", empty},
			exitError, "--cri"},
	} {
		r := n.run(t, append([]string{"adopt"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.says) || r.stdout != "" {
			t.Errorf("%q: %d, %q, %q; want %d, %q", c.args, r.code, r.stdout, r.stderr, c.code, c.says)
		}
	}
}
