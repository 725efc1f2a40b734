// SPDX-License-Identifier: Apache-2.0

// Package nobody runs programs as an unprivileged user, for tests of what such a user can do to others.
package nobody

import (
	"bufio"
	"os/exec"
	"syscall"
	"testing"
)

// ID is the number of the user and of its group.
const ID = 65534

// Command returns a program that runs as the user nobody and is killed at the end of the test. It runs in the
// root directory, because this user may not be able to enter the test's directory.
func Command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ID, Gid: ID}}
	return cmd
}

// HoldLock starts a process of the user nobody that locks a file or directory that everybody can open, and
// holds the lock until the test ends.
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
		tb.Fatalf("the user nobody could not lock %s: %q, %v", path, line, err)
	}
}
