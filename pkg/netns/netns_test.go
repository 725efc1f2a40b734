// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func mustIdentify(t testing.TB, path string) ID {
	t.Helper()
	id, err := Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sleeper is a process in its own network namespace.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is sent when the parent's thread ends
	t.Cleanup(runtime.UnlockOSThread)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func TestEachNamespaceHasAnIdentityOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	netnstest.Mount(t, a)
	netnstest.Mount(t, b)
	own, err := OwnID()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint64]string{own.Cookie: "own"}
	for _, path := range []string{a, b} {
		id := mustIdentify(t, path)
		if id.Cookie == 0 || id.Inode == 0 || id.Dev == 0 {
			t.Errorf("%s: %+v has a field that is zero", path, id)
		}
		if other, dup := ids[id.Cookie]; dup {
			t.Errorf("%s has the cookie of %s", path, other)
		}
		ids[id.Cookie] = path
		if again := mustIdentify(t, path); again != id {
			t.Errorf("%s: first %+v, then %+v", path, id, again)
		}
		dev, ino, err := Stat(path)
		if err != nil || dev != id.Dev || ino != id.Inode {
			t.Errorf("Stat(%s) = %d, %d, %v; want what Identify says: %+v", path, dev, ino, err, id)
		}
	}
}

func TestNewNetNSAtTheSamePathHasAnotherCookie(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, path)
	first := mustIdentify(t, path)
	if err := unix.Unmount(path, 0); err != nil {
		t.Fatal(err)
	}
	netnstest.Mount(t, path)
	if second := mustIdentify(t, path); second.Cookie == first.Cookie {
		t.Errorf("both have cookie %d", first.Cookie)
	}
}

func TestProcessPathAndMountedPathAgree(t *testing.T) {
	cmd := sleeper(t)
	proc := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	mounted := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(mounted, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(proc, mounted, "none", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	if a, b := mustIdentify(t, proc), mustIdentify(t, mounted); a != b {
		t.Errorf("%s is %+v, %s is %+v", proc, a, mounted, b)
	}
}

func TestOwnNetNSIsRecognised(t *testing.T) {
	own, err := OwnID()
	if err != nil {
		t.Fatal(err)
	}
	if id := mustIdentify(t, "/proc/self/ns/net"); id != own {
		t.Errorf("Own is %+v, /proc/self/ns/net is %+v", own, id)
	}
	foreign := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, foreign)
	for path, want := range map[string]bool{"/proc/self/ns/net": true, foreign: false} {
		if same, err := SameAsOwn(path); err != nil || same != want {
			t.Errorf("SameAsOwn(%s) = %v, %v; want %v", path, same, err, want)
		}
	}
}

func TestMountNS(t *testing.T) {
	got, err := MountNS()
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("mnt:[%d]", got); link != want {
		t.Errorf("got %s, the kernel says %s", want, link)
	}
}

func TestPathsThatAreNoNetworkNamespace(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
		// statErr is the error of Stat, which does not check the kind.
		statErr error
	}{
		{"nothing", filepath.Join(dir, "missing"), fs.ErrNotExist, fs.ErrNotExist},
		{"empty path", "", fs.ErrNotExist, fs.ErrNotExist},
		{"process that is gone", "/proc/2147483647/ns/net", fs.ErrNotExist, fs.ErrNotExist},
		{"plain file left behind", file, ErrNotNetNS, ErrNotNetNS},
		{"FIFO without a writer", fifo, ErrNotNetNS, ErrNotNetNS},
		{"directory", dir, ErrNotNetNS, ErrNotNetNS},
		{"file in procfs", "/proc/self/stat", ErrNotNetNS, ErrNotNetNS},
		{"mount namespace", "/proc/self/ns/mnt", ErrNotNetNS, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if id, err := Identify(c.path); !errors.Is(err, c.want) {
				t.Errorf("Identify = %+v, %v; want %v", id, err, c.want)
			}
			if _, _, err := Stat(c.path); !errors.Is(err, c.statErr) {
				t.Errorf("Stat: %v, want %v", err, c.statErr)
			}
			if same, err := SameAsOwn(c.path); same || !errors.Is(err, c.statErr) {
				t.Errorf("SameAsOwn = %v, %v; want false, %v", same, err, c.statErr)
			}
		})
	}
}

// threadsIn counts the threads of this process in the namespace with inode ino.
func threadsIn(t *testing.T, ino uint64) int {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatalf("list own threads: %v", err)
	}
	n := 0
	for _, path := range threads {
		if _, got, err := Stat(path); err == nil && got == ino {
			n++
		}
	}
	return n
}

func expectNoThreadIn(t *testing.T, ino uint64) {
	t.Helper()
	fixture.Wait(t, "no thread is in the namespace that was asked about",
		func() bool { return threadsIn(t, ino) == 0 })
}

func TestNoThreadStaysBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, path)
	id := mustIdentify(t, path)
	for range 100 {
		mustIdentify(t, path)
	}
	expectNoThreadIn(t, id.Inode)
}

func TestThreadThatCannotReturnIsDiscarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, path)
	want := mustIdentify(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// setns(2) refuses to return to a namespace of another kind.
	got, err := cookieIn(int(f.Fd()), "/proc/self/ns/mnt")
	if err != nil || got != want.Cookie {
		t.Errorf("got %d, %v; want cookie %d in spite of the way back", got, err, want.Cookie)
	}
	expectNoThreadIn(t, want.Inode)
}

func TestErrnoInWords(t *testing.T) {
	if err := cookieError(unix.ENOPROTOOPT); !errors.Is(err, ErrNotSupported) {
		t.Errorf("ENOPROTOOPT: %v, want ErrNotSupported", err)
	}
	if err := cookieError(unix.ENOMEM); errors.Is(err, ErrNotSupported) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("ENOMEM: %v, want ENOMEM and not ErrNotSupported", err)
	}
}

func TestEnteringNeedsRights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, path)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: its rights do not come back
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData // version 3 takes two of them
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- fmt.Errorf("drop capabilities: %w", err)
			return
		}
		f, err := os.Open("/proc/self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer f.Close()
		_, err = enterAndReturn(int(f.Fd()), ownNet, func() error { return errors.New("it went in") })
		done <- err
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
}

func TestPID(t *testing.T) {
	for _, c := range []struct {
		path string
		pid  int
	}{
		{"/proc/1/ns/net", 1},
		{"/proc/4711/ns/net", 4711},
		{"/proc//4711/./ns/net", 4711},
		{"/proc/4711/task/4712/ns/net", 4711},
		{"/proc/4711/task/x/ns/net", 0},
		{"/proc/4711/task/0/ns/net", 0},
		{"/proc/4711/fd/3/ns/net", 0},
		{"/proc/4711/ns/mnt", 0},
		{"/proc/4711/ns/net/x", 0},
		{"/proc/0/ns/net", 0},
		{"/proc/-1/ns/net", 0},
		{"/proc/+1/ns/net", 0},
		{"/proc/99999999999/ns/net", 0},
		{"/proc/self/ns/net", 0},
		{"/proc/thread-self/ns/net", 0},
		{"/run/proc/1/ns/net", 0},
		{"proc/1/ns/net", 0},
		{"/proc/1/../2/ns/net", 2},
		{"/run/netns/cni-1", 0},
		{"/", 0},
		{"", 0},
	} {
		if pid, ok := PID(c.path); pid != c.pid || ok != (c.pid != 0) {
			t.Errorf("PID(%q) = %d, %v; want %d", c.path, pid, ok, c.pid)
		}
	}
}

func BenchmarkIdentify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ns")
	netnstest.Mount(b, path)
	for b.Loop() {
		mustIdentify(b, path)
	}
}

func BenchmarkSameAsOwn(b *testing.B) {
	for b.Loop() {
		if _, err := SameAsOwn("/proc/self/ns/net"); err != nil {
			b.Fatal(err)
		}
	}
}

// Each namespace is visited once, whichever path leads to it, and one that is gone is skipped.
func TestEachVisitsEveryNetNSOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	netnstest.Mount(t, path)
	named, running := mustIdentify(t, path), sleeper(t)
	process := mustIdentify(t, fmt.Sprintf("/proc/%d/ns/net", running.Process.Pid))
	visits := map[uint64]int{}
	err := Each([]string{path, path, path + "-gone"}, func() error {
		own, err := OwnID()
		visits[own.Cookie]++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if visits[named.Cookie] != 1 || visits[process.Cookie] != 1 {
		t.Errorf("visited %v, want %d and %d once each", visits, named.Cookie, process.Cookie)
	}
	for cookie, n := range visits {
		if n != 1 {
			t.Errorf("namespace %d was visited %d times", cookie, n)
		}
	}
	stop := errors.New("stop")
	if err := Each([]string{path}, func() error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the function", err)
	}
}
