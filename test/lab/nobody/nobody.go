// SPDX-License-Identifier: Apache-2.0

// Package nobody runs programs as a user without rights, for tests of what such a user can do to others.
package nobody

import (
	"bufio"
	"os/exec"
	"syscall"
	"testing"
)

// ID is the user and the group.
const ID = 65534

// Command is a program that runs as nobody, and ends with the test at the latest. Directories of tests may be closed to
// nobody, so it runs in the root directory.
func Command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ID, Gid: ID}}
	return cmd
}

// HoldLock has nobody hold a lock on what everybody can open, until the test ends.
func HoldLock(tb testing.TB, path string) {
	tb.Helper()
	cmd := Command(tb, "flock", "--no-fork", path, "sh", "-c", "echo held; exec sleep 60")
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		tb.Fatalf("nobody does not hold a lock on %s: %q, %v", path, line, err)
	}
}
