// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// strayOf finds the state's own among all that FindStrays finds.
func (w watched) strayOf(t *testing.T) (found Stray, ok bool) {
	t.Helper()
	id, _ := mapID(w.maps[bpf.SockmapMapConfig])
	all, err := FindStrays()
	if err != nil {
		t.Error(err)
	}
	for _, s := range all {
		if s.Config == id {
			return s, true
		}
	}
	return found, false
}

// start starts a process that does nothing until the test ends.
func start(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// idleVariable makes the test program one that does nothing for a while: a guest has no other programs. Its
// value is a directory to mount a bpffs at first, or "-".
const idleVariable = "SOCKMAP_TEST_IDLE"

func init() {
	dir := os.Getenv(idleVariable)
	if dir == "" {
		return
	}
	if dir != "-" {
		if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount a bpffs:", err)
			os.Exit(1)
		}
	}
	fmt.Println()
	fixture.Elapse(5*time.Minute, "idles until it is killed, and not for ever")
	os.Exit(0)
}

func idle(dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), idleVariable+"="+dir)
	return cmd
}

// A benchmark and a probe load without pins, and hold the maps open while they run.
func TestLoadOfARunningProcessIsNoStray(t *testing.T) {
	w := newWatched(t)
	if err := os.RemoveAll(w.layout.state()); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(uintptr(w.maps[bpf.SockmapMapConfig].FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	config := os.NewFile(uintptr(fd), "config")
	defer config.Close()
	cmd := idle("-")
	cmd.ExtraFiles = []*os.File{config}
	stop := start(t, cmd)
	want := "process " + strconv.Itoa(cmd.Process.Pid) + " ("
	if s, ok := w.strayOf(t); !ok || !strings.HasPrefix(s.UsedBy, want) || s.Sure {
		t.Errorf("found %+v, %v; want it used by %s", s, ok, want)
	}
	stop()
	if s, ok := w.strayOf(t); !ok || s.UsedBy != "" || s.Sure != seesAllProcesses() {
		t.Errorf("when the process has ended: found %+v, %v", s, ok)
	}
}

// elsewhere pins the config map on a bpffs that only a process in a mount namespace of its own has.
func elsewhere(t *testing.T, m *ebpf.Map) {
	t.Helper()
	dir := t.TempDir()
	cmd := idle(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("bpffs is not mounted: %v", err)
	}
	l := layout{filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", dir, "sockmap"), stateName(ABI)}
	if err := os.MkdirAll(l.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	again, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Pin(l.pin(bpf.SockmapMapConfig)); err != nil {
		t.Fatal(err)
	}
}

// withoutPtrace calls f on a thread as a container has it, which may not look at processes with more
// capabilities.
func withoutPtrace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with the thread
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		if err == nil {
			sets[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
			err = unix.Capset(&header, &sets[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Pins of a process that cannot be looked at are not taken for pins that are not there.
func TestStrayIsNotSureIfPinsCannotBeSeen(t *testing.T) {
	w := newWatched(t)
	elsewhere(t, w.maps[bpf.SockmapMapConfig])
	if err := os.RemoveAll(w.layout.state()); err != nil {
		t.Fatal(err)
	}
	if s, ok := w.strayOf(t); ok {
		t.Errorf("it has a pin in another mount namespace: %+v", s)
	}
	withoutPtrace(t, func() {
		if s, ok := w.strayOf(t); !ok || s.Sure {
			t.Errorf("found %+v, %v; want one that is not sure", s, ok)
		}
		if pins, err := findPins(); err != nil || !pins.hidden {
			t.Errorf("hidden %v, %v: there is a bpffs that this thread cannot see", pins.hidden, err)
		}
		if _, complete, err := holders(nil); err != nil || complete {
			t.Errorf("complete %v, %v: there are processes whose files this thread cannot see", complete, err)
		}
		if seesAllProcesses() {
			t.Error("it has no CAP_SYS_PTRACE")
		}
	})
}

// A namespace that cannot be entered hides nothing where its bpffs is seen elsewhere.
func TestInaccessibleNamespaceHidesOnlyBPFFSNotSeenElsewhere(t *testing.T) {
	closed := mountNS{path: "/proc/self/root", mountinfo: "/proc/self/mountinfo", closed: true}
	newStateDir(t)
	all, err := bpffsMounts(closed)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d mounts, %v", len(all), err)
	}
	seen := map[uint64]bool{}
	for _, m := range all {
		seen[deviceOf(m)] = true
	}
	if hides(closed, seen) {
		t.Error("hidden, and all was seen")
	}
	delete(seen, deviceOf(all[0]))
	if !hides(closed, seen) {
		t.Error("not hidden, and one bpffs was not seen")
	}
	var st unix.Stat_t
	if err := unix.Stat(all[0].Mountpoint, &st); err == nil && st.Dev != deviceOf(all[0]) {
		t.Errorf("device %d, and mountinfo says %d", st.Dev, deviceOf(all[0]))
	}
}
