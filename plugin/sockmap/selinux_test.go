// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// confined runs the plugin with a label of SELinux, as root without access to files of other users.
func confined(t *testing.T, label string) (path string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "label")
	if err := os.WriteFile(file, []byte(label), 0o600); err != nil {
		t.Fatal(err)
	}
	const without = "-dac_override,-dac_read_search"
	return script(t, "exec /usr/bin/unshare --mount /bin/sh -c 'mount --bind "+file+" /proc/$$/attr/current && "+
		"exec /usr/bin/setpriv --bounding-set="+without+" --inh-caps="+without+" %s'")
}

func TestARefusalBySELinuxIsNamed(t *testing.T) {
	const label = "system_u:system_r:container_runtime_t:s0"
	w := newWorld(t)
	p := w.pod()
	w.mustAdd(p, nil)
	foreign := filepath.Dir(w.node.BPFFS())
	if err := os.Chown(foreign, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chown(foreign, 0, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	says := []string{"permission denied", label, "ausearch -m avc"}
	a := w.runWith(confined(t, label), "ADD", p, nil)
	expectTexts(t, "the log", a.stderr, append(says, "not accelerated")...)
	a = w.runWith(confined(t, label), "ADD", p, keys{"required": true})
	oneDocument(t, a.stdout)
	expectCode(t, a, decline.Permission.Code(), says...)
	a = w.runWith(confined(t, label), "STATUS", nil, keys{"required": true})
	oneDocument(t, a.stdout)
	expectTexts(t, "STATUS", a.stdout, says[:2]...)
	a = w.runWith(confined(t, "unconfined"), "ADD", p, keys{"required": true})
	expectCode(t, a, decline.Permission.Code(), says[0])
	if strings.Contains(a.stdout, "SELinux") {
		t.Errorf("without SELinux it is named: %s", a.stdout)
	}
}
