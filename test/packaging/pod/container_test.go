// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// A container runs in a child process, which is this test's executable and gets its orders in the
// environment.
const (
	containerVariable = "SOCKMAP_TEST_CONTAINER"
	talkVariable      = "SOCKMAP_TEST_TALK"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(containerVariable) != "":
		end(becomeContainer(os.Getenv(containerVariable)))
	case os.Getenv(talkVariable) != "":
		end(talk())
	}
	fixture.Main(m)
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(125)
	}
	os.Exit(0)
}

type mount struct {
	Source, Target string
	ReadOnly       bool
}

// container is one container of the pod, as a runtime makes it.
type container struct {
	Root         string // an empty directory
	Cgroup       string // its own cgroup, the root of its cgroup namespace
	HostCgroups  bool   // use the host's cgroup namespace, as on hosts with cgroup v1
	Programs     string // directory of the host; /usr/local/bin in the container
	Mounts       []mount
	Env          []string
	Args         []string // arguments in the chart
	Capabilities []string // all that it has, without CAP_
}

// running is a started container.
type running struct {
	*exec.Cmd
	out, err *fixture.Output
}

func (r running) complaint() string { return r.err.String() }

// start starts sockmapctl. stop ends it as the kubelet does, and may be called again.
func (c container) start(t *testing.T, args ...string) (r running, stop func()) {
	t.Helper()
	c.Args = args
	orders, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(c.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r = running{exec.Command("/proc/self/exe"), &fixture.Output{}, &fixture.Output{}}
	r.Env = []string{containerVariable + "=" + string(orders)}
	r.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // the signal is sent when the parent's thread ends
	t.Cleanup(runtime.UnlockOSThread)
	r.Stdout, r.Stderr = r.out, r.err
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r, sync.OnceFunc(func() {
		kill := time.AfterFunc(time.Minute, func() { r.Process.Kill() })
		defer kill.Stop()
		r.Process.Signal(unix.SIGTERM)
		r.Wait()
	})
}

// run returns the exit code and the output of sockmapctl.
func (c container) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r, _ := c.start(t, args...)
	err := r.Wait()
	code = r.ProcessState.ExitCode()
	if code == 125 || code < 0 {
		t.Fatalf("no container: %v: %s", err, r.complaint())
	}
	return code, r.out.String(), r.complaint()
}

// must fails the test unless the exit code is one of codes.
func (c container) must(t *testing.T, codes []int, args ...string) string {
	t.Helper()
	code, out, complaint := c.run(t, args...)
	if !slices.Contains(codes, code) {
		t.Fatalf("sockmapctl %s with %v: exit code %d: %s", strings.Join(args, " "), c.Capabilities, code,
			complaint)
	}
	return out
}

// becomeContainer does not return unless an error occurs.
func becomeContainer(orders string) error {
	runtime.LockOSThread() // capabilities belong to the thread, and exec keeps those of its own
	var c container
	if err := json.Unmarshal([]byte(orders), &c); err != nil {
		return err
	}
	if err := c.enterRoot(); err != nil {
		return err
	}
	if err := dropCapabilities(c.Capabilities); err != nil {
		return err
	}
	// The effect of allowPrivilegeEscalation: false.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	argv := append([]string{"/usr/local/bin/sockmapctl"}, c.Args...)
	return syscall.Exec(argv[0], argv, c.Env)
}

func (c container) enterRoot() error {
	if !c.HostCgroups {
		// Not at clone, where it would begin at the parent's cgroup.
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return err
		}
	}
	// Mounts made here are not visible on the host, but mounts of the host are visible here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := (mount{c.Programs, "/usr/local/bin", true}).bind(c.Root); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys"} {
		if err := os.Mkdir(filepath.Join(c.Root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(c.Root, "proc"), "proc",
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", filepath.Join(c.Root, "sys"), "sysfs",
		unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := makeNull(filepath.Join(c.Root, "dev")); err != nil {
		return err
	}
	for _, m := range c.Mounts {
		if err := m.bind(c.Root); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	if err := unix.Mount("", c.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := unix.Chroot(c.Root); err != nil {
		return err
	}
	return os.Chdir("/")
}

// makeNull makes /dev/null, the one device that Go programs use, as every runtime does.
func makeNull(dev string) error {
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	null := filepath.Join(dev, "null")
	if err := os.WriteFile(null, nil, 0o666); err != nil {
		return err
	}
	return unix.Mount("/dev/null", null, "", unix.MS_BIND, "")
}

func (m mount) bind(root string) error {
	target := filepath.Join(root, m.Target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil || !m.ReadOnly {
		return err
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// numbers of the capabilities that the chart or these tests use, see linux/capability.h.
var numbers = map[string]uintptr{
	"NET_ADMIN": unix.CAP_NET_ADMIN, "SYS_ADMIN": unix.CAP_SYS_ADMIN,
	"DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"BPF":             unix.CAP_BPF, "PERFMON": unix.CAP_PERFMON, "SYS_PTRACE": unix.CAP_SYS_PTRACE,
	"SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
}

// dropCapabilities bounds the capabilities of root after exec.
func dropCapabilities(keep []string) error {
	kept := map[uintptr]bool{}
	for _, name := range keep {
		n, known := numbers[name]
		if !known {
			return fmt.Errorf("capability %s is not known here", name)
		}
		kept[n] = true
	}
	for n := uintptr(0); n <= unix.CAP_LAST_CAP; n++ {
		if kept[n] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, n, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}
