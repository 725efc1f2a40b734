// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// childTask contains, as JSON, what this test binary has to do as a child process: in a cgroup and in
// namespaces that the test process must not enter itself.
const childTask = "CGROUP_TEST_TASK"

// The steps of a task are done in the order of its fields.
type task struct {
	NewCgroupNS bool
	Cover       string // where to mount a tmpfs
	Bind        [2]string
	Scenario    string // of mounts, see the scenarios in mount_test.go
	Mount       Mount
	Request     Request
}

// outcome is the report of a child.
type outcome struct {
	Found Found
	Mount Mount
	Err   string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childTask); text != "" {
		var job task
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			panic(err)
		}
		out, err := job.do()
		if err != nil {
			out.Err = err.Error()
		}
		json.NewEncoder(os.Stdout).Encode(out)
		os.Exit(0)
	}
	fixture.Main(m)
}

func (job task) do() (out outcome, err error) {
	if job.NewCgroupNS {
		return out, job.enterCgroupNS()
	}
	if job.Cover != "" {
		if err := unix.Mount("none", job.Cover, "tmpfs", 0, ""); err != nil {
			return out, fmt.Errorf("set up: cover %s: %w", job.Cover, err)
		}
	}
	if job.Bind[0] != "" {
		if err := unix.Mount(job.Bind[0], job.Bind[1], "", unix.MS_BIND, ""); err != nil {
			return out, fmt.Errorf("set up: bind %v: %w", job.Bind, err)
		}
	}
	if job.Scenario != "" {
		return scenarios[job.Scenario](job.Mount.Path, job.Request.Runtime)
	}
	out.Found, err = Find(job.Mount, job.Request)
	return out, err
}

// enterCgroupNS starts the task again in its own cgroup namespace.
func (job task) enterCgroupNS() error {
	runtime.LockOSThread() // execve(2) keeps the namespaces of its thread
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("set up: new cgroup namespace: %w", err)
	}
	job.NewCgroupNS = false
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"cgroup.test"},
		[]string{childTask + "=" + string(text), "GORACE=" + os.Getenv("GORACE")})
}

// run does the task in a child in the cgroup dir, with its own mounts.
func (job task) run(t *testing.T, dir string) outcome {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	// The race detector would sleep for a second at the end of each child.
	cmd.Env = append(os.Environ(), childTask+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, UseCgroupFD: true,
		CgroupFD: openDir(t, dir)}
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v: %s", err, stdout)
	}
	var out outcome
	if err := json.NewDecoder(bytes.NewReader(stdout)).Decode(&out); err != nil {
		t.Fatalf("child said %q: %v", stdout, err)
	}
	if strings.HasPrefix(out.Err, "set up: ") {
		t.Fatal(out.Err)
	}
	return out
}

func openDir(t testing.TB, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", dir, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func realMount(t testing.TB) Mount {
	t.Helper()
	m, err := FindMount()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newTree makes a cgroup that serves as the root of a hierarchy, with these cgroups in it.
func newTree(t testing.TB, rels ...string) Mount {
	t.Helper()
	dir, err := os.MkdirTemp(realMount(t).Path, "sockmap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeTree(t, dir) })
	m := Mount{Path: dir}
	for _, rel := range rels {
		mkdir(t, m, rel)
	}
	return m
}

func mkdir(t testing.TB, m Mount, rel string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(m.Path, rel), 0o755); err != nil {
		t.Fatal(err)
	}
}

func removeTree(t testing.TB, dir string) {
	var dirs []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		// A killed process leaves its cgroup a little later.
		var err error
		fixture.Within(fixture.Patience, func() bool { err = unix.Rmdir(d); return !errors.Is(err, unix.EBUSY) })
		if err != nil {
			t.Errorf("remove test cgroup %s: %v", d, err)
		}
	}
}

// idOf reads the ID in another way than the code under test.
func idOf(t testing.TB, path string) uint64 {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil || h.Type() != kernfsHandle || h.Size() != 8 {
		t.Fatalf("handle of %s: %+v, %v", path, h, err)
	}
	var id uint64
	for i, b := range h.Bytes() { // little endian, as all machines of the tests are
		id |= uint64(b) << (8 * i)
	}
	return id
}

// startProcess runs a process in the cgroup dir until the test ends, in new
// namespaces of the kinds in flags, and returns the path of its network namespace.
func startProcess(t *testing.T, dir string, flags uintptr) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, UseCgroupFD: true, CgroupFD: openDir(t, dir)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}

// expect checks that the result is the cgroup rel below m, from this source.
func expect(t *testing.T, m Mount, got Found, err error, rel string, from Source) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.Path, rel)
	if got.Path != path || got.Source != from || got.ID != idOf(t, path) || got.Root {
		t.Errorf("got %+v\nwant %s from %s", got, path, from)
	}
}

// expectRoot checks that only the root was found, and the note of this source.
func expectRoot(t *testing.T, m Mount, got Found, err error, from Source, why string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got.Path != m.Path || !got.Root || got.Source != SourceRoot || got.ID != idOf(t, m.Path) {
		t.Errorf("got %+v, want the root", got)
	}
	for _, note := range got.Notes {
		if strings.HasPrefix(note, string(from)+": ") && strings.Contains(note, why) {
			return
		}
	}
	t.Errorf("notes %q\nwant one on %s with %q", got.Notes, from, why)
}
