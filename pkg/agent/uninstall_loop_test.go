// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/install"
)

// leaving is an agent that uninstalls.
func leaving(a *Agent) {
	a.Uninstalling, a.Uninstall = true, &install.Removal{Node: a.Node, DrainFor: time.Second}
}

// A DaemonSet replaces its agent: while the old one lives, the new one can do nothing, and reports that.
func TestUninstallingAgentIsReadyOnceNothingIsLeft(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	keeps := p.start()
	eventually(t, "the agent has installed", func() bool { return keeps.ready(t) })

	leaves := p.start(leaving)
	eventually(t, "it says what is in the way", func() bool {
		_, text := leaves.get(t, "/readyz")
		return strings.HasPrefix(text, "uninstalled: ") && strings.Contains(text, "agent")
	})
	if leaves.ready(t) || !p.chained() || !p.loaded() {
		t.Errorf("ready %v, chained %v, loaded %v while another agent keeps the node", leaves.ready(t), p.chained(),
			p.loaded())
	}
	if err := keeps.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool { return leaves.ready(t) })
	binary := filepath.Join(p.BinDir, install.PluginType)
	if _, err := os.Stat(binary); !os.IsNotExist(err) || p.chained() || p.loaded() {
		t.Errorf("ready, and %v, chained %v, loaded %v", err, p.chained(), p.loaded())
	}
	leaves.expectParts(t, "when nothing is left", 200, "[+]uninstalled ok", "readyz check passed")
	if err := leaves.stop(); err != nil {
		t.Error(err)
	}
	if found := p.leftovers(); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
	if n := len(leaves.log.Records(t, "uninstalled")); n != 1 {
		t.Errorf("it said %d times that it has uninstalled", n)
	}
}
