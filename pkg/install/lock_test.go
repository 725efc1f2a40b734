// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/sockmap-cni/sockmap-cni/test/lab/nobody"
)

func TestLockOfAnotherUserDoesNotDelayInstallers(t *testing.T) {
	p := newPlace(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(p.ConfDir)), 0o755); err != nil { // testing makes it 0700
		t.Fatal(err)
	}
	nobody.HoldLock(t, p.ConfDir)
	nobody.HoldLock(t, p.BinDir)
	p.write("10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"}]}`)
	start := time.Now()
	p.install()
	claim, err := p.TakeClaim(t.Context(), "this test")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > lockTimeout {
		t.Errorf("it took %v", took)
	}
	for _, path := range []string{
		filepath.Join(p.ConfDir, lockName), filepath.Join(p.BinDir, lockName), filepath.Join(p.ConfDir, claimName),
	} {
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, st.Mode(), err)
		}
		out, err := nobody.Command(t, "flock", "-s", path, "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("nobody can lock %s: %q, %v", path, out, err)
		}
	}
	if err := claim.Release(); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	for _, path := range []string{filepath.Join(p.ConfDir, lockName), filepath.Join(p.BinDir, lockName)} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

func TestLockFileIsNoConfiguration(t *testing.T) {
	p := newPlace(t)
	p.write("10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"}]}`)
	p.install()
	for _, of := range [][]string{{".conf"}, {".conflist"}, {".json"}, {".conf", ".conflist", ".json"}, {}} {
		files, err := libcni.ConfFiles(p.ConfDir, of)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(files, filepath.Join(p.ConfDir, lockName)) {
			t.Errorf("a runtime that looks for %v loads the lock file: %v", of, files)
		}
	}
}
