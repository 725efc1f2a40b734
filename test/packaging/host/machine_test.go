// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// bootVariable is the environment variable that makes this test binary the first process of a machine. Its
// value is the machine's directory.
const bootVariable = "SOCKMAP_TEST_BOOT"

// patience bounds each wait that is expected to succeed, on a busy machine.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(bootVariable); dir != "" {
		fmt.Fprintln(os.Stderr, "boot:", boot(dir))
		os.Exit(125)
	}
	fixture.Main(m)
}

// machine is systemd with a Debian tree, in its own namespaces and cgroup. Its files are removed with it.
type machine struct {
	*testing.T
	root string // path on the host, while the machine is off
	init int    // process that is systemd
}

// newMachine boots a machine.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t}
	dir := t.TempDir()
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(tree(t), filepath.Join(dir, "lower")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{bootVariable + "=" + dir}
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	group := newCgroup(t)
	defer group.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(group.Fd()), Pdeathsig: syscall.SIGKILL, Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
	}
	cmd.WaitDelay = 5 * time.Second
	runtime.LockOSThread() // the signal is sent when the parent's thread ends
	t.Cleanup(runtime.UnlockOSThread)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.init = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it all processes of its PID namespace
		cmd.Wait()
		if t.Failed() {
			t.Logf("the console:\n%s", console.String())
		}
	})
	m.until("systemd has booted", func() bool {
		out, _ := m.try("systemctl", "is-system-running")
		state := strings.TrimSpace(out)
		return state == "running" || state == "degraded"
	})
	return m
}

// newCgroup makes a cgroup, which is removed at the end of the test together with those that were made in it.
func newCgroup(t *testing.T) *os.File {
	t.Helper()
	mount, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(mount.Path, "sockmap-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		// The kernel takes a moment to release killed processes.
		if !fixture.Within(fixture.Patience, func() bool { err = removeCgroups(path); return err == nil }) {
			t.Errorf("remove %s: %v", path, err)
		}
	})
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func removeCgroups(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroups(filepath.Join(path, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(path))
}

// boot becomes systemd.
func boot(dir string) error {
	// Not at clone, where the namespace would begin at the parent's cgroup.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	lower, err := os.Readlink(filepath.Join(dir, "lower"))
	if err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(dir, "upper"),
		filepath.Join(dir, "work"))
	mounts := []struct{ kind, target, data string }{
		{"overlay", "", layers}, {"proc", "proc", ""}, {"sysfs", "sys", ""}, {"cgroup2", "sys/fs/cgroup", ""},
		{"bpf", "sys/fs/bpf", "mode=0700"}, {"tmpfs", "dev", "mode=0755"},
		{"devpts", "dev/pts", "newinstance,ptmxmode=0666"},
		{"tmpfs", "dev/shm", ""}, {"tmpfs", "run", "mode=0755"}, {"tmpfs", "tmp", "mode=1777"},
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, target, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		target := filepath.Join(root, "dev", name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for target, name := range map[string]string{"pts/ptmx": "ptmx", "/proc/self/fd": "fd"} {
		if err := os.Symlink(target, filepath.Join(root, "dev", name)); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chdir(root), unix.PivotRoot(".", "mnt"),
		unix.Unmount("/mnt", unix.MNT_DETACH)); err != nil {
		return err
	}
	// As on a host: systemd makes slaves of this for services.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return err
	}
	const systemd = "/lib/systemd/systemd"
	env := []string{"container=sockmap-test", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return syscall.Exec(systemd, []string{systemd, "--log-target=console", "--show-status=no"}, env)
}

// command runs a program as a service of the machine, in its own cgroup below system.slice.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(m.init), "-a", "systemd-run", "--quiet", "--pipe", "--wait", "--collect",
		"--property=KillMode=process", "--"} // conmon lives on
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs a program and returns its output, and its error output if it fails.
func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	cmd := m.command(ctx, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, out.String(),
			complaint.String())
	}
	return out.String(), nil
}

// run is try for programs that must succeed.
func (m *machine) run(args ...string) string {
	m.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.Fatal(err)
	}
	return out
}

// fails is for programs that must fail, and returns all of their output.
func (m *machine) fails(args ...string) string {
	m.Helper()
	_, err := m.try(args...)
	if err == nil {
		m.Fatalf("%s: no error", strings.Join(args, " "))
	}
	return err.Error()
}

// path of a file of the machine, for the host.
func (m *machine) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", m.init, name) }

func (m *machine) read(name string) string {
	m.Helper()
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

func (m *machine) write(name, text string) {
	m.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

// copy copies a file of the host to the machine and returns its path there.
func (m *machine) copy(file, to string) string {
	m.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(m.path(to)), 0o755)
	}
	if err == nil {
		err = os.WriteFile(m.path(to), text, 0o755)
	}
	if err != nil {
		m.Fatal(err)
	}
	return to
}

func (m *machine) exists(name string) bool {
	_, err := os.Lstat(m.path(name))
	return err == nil
}

func (m *machine) until(what string, done func() bool) {
	m.Helper()
	fixture.WaitFor(m, patience, what, done)
}
