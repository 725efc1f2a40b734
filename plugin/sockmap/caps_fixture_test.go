// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// capabilityOf has what a call may need, by the names of capabilities(7).
var capabilityOf = map[string]uintptr{
	"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
	"CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE,
}

// limited runs the plugin as a uid with these capabilities and no others.
type limited struct {
	uid  int
	caps []string
}

func (l limited) String() string {
	return fmt.Sprintf("uid %d with %s", l.uid, strings.Join(l.caps, ", "))
}

// dropVariable makes this test binary drop its bounding set but for the capabilities that it names, separated
// by commas, and become the program of its first argument.
const dropVariable = "SOCKMAP_TEST_KEEP_CAPABILITIES"

// drop does so. Root gets its bounding set at execve(2).
func drop(keep string) error {
	runtime.LockOSThread() // sets of capabilities are those of a thread, and execve(2) keeps those of its own
	var kept []uintptr
	for _, text := range strings.FieldsFunc(keep, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		kept = append(kept, uintptr(n))
	}
	for n := range uintptr(unix.CAP_LAST_CAP + 1) {
		if slices.Contains(kept, n) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, n, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	os.Unsetenv(dropVariable)
	return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
}

func (l limited) run(tb testing.TB, path string, env []string, stdin []byte) answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = env
	var numbers []uintptr
	var texts []string
	for _, name := range l.caps {
		numbers, texts = append(numbers, capabilityOf[name]), append(texts, fmt.Sprint(capabilityOf[name]))
	}
	if l.uid == 0 {
		self, err := os.Executable()
		if err != nil {
			tb.Fatal(err)
		}
		cmd.Path, cmd.Args = self, []string{self, path}
		cmd.Env = append(slices.Clone(env), dropVariable+"="+strings.Join(texts, ",")+",")
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.uid)},
			AmbientCaps: numbers,
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	a := answer{stdout: stdout.String(), stderr: stderr.String()}
	if err == nil {
		return a
	}
	a.err = &types.Error{}
	if failed := json.Unmarshal(stdout.Bytes(), a.err); failed != nil {
		tb.Fatalf("%v: %v, %q %q", l, err, a.stdout, a.stderr)
	}
	return a
}

// forEverybody is the plugin where each user may run it.
func forEverybody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sockmap-caps-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(filepath.Join(labtest.Plugins(t), "sockmap"))
	path := filepath.Join(dir, "sockmap")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(path, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}
