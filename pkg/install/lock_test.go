// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// asNobody is a command of a user without any right.
func asNobody(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// hold has nobody hold a lock on what everybody can open.
func hold(t *testing.T, dir string) {
	t.Helper()
	cmd := asNobody(t, "flock", "--no-fork", dir, "sh", "-c", "echo held; exec sleep 60")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("nobody does not hold a lock on %s: %q, %v", dir, line, err)
	}
}

func TestNobodyKeepsInstallersWaiting(t *testing.T) {
	p := newPlace(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(p.ConfDir)), 0o755); err != nil { // testing makes it 0700
		t.Fatal(err)
	}
	hold(t, p.ConfDir)
	hold(t, p.BinDir)
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
		out, err := asNobody(t, "flock", "-s", path, "true").CombinedOutput()
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
