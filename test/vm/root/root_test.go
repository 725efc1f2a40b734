// SPDX-License-Identifier: Apache-2.0

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNameOfAnImageDependsOnItsPackages(t *testing.T) {
	one, other := name([]string{"a", "b"}), name([]string{"a", "c"})
	if one == other || one != name([]string{"a", "b"}) || !strings.HasPrefix(one, suite+"-") {
		t.Errorf("%q, %q", one, other)
	}
}

func TestReplacedImagesAreRemoved(t *testing.T) {
	home := t.TempDir()
	for _, f := range []string{"old.ext4", "new.ext4", "lock"} {
		if err := os.WriteFile(filepath.Join(home, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(home, filepath.Join(home, "new.ext4")); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(home, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestATreeWithMountsBelowItIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	below := filepath.Join(dir, "proc")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("test", below, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting is for root: %v", err)
	}
	defer unix.Unmount(below, unix.MNT_DETACH)
	kept := filepath.Join(below, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(dir); err == nil || !strings.Contains(err.Error(), "mounted below it") {
		t.Error(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(below, 0); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(dir); err != nil {
		t.Error(err)
	}
}

func TestFinishScriptStopsAtTheFirstError(t *testing.T) {
	out, err := exec.Command("sh", "-c", finishScript, "finish.sh", t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "etc/passwd") {
		t.Errorf("%v: %s", err, out)
	}
}
