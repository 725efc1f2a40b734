// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// patience bounds every wait that is expected to succeed.
const patience = 10 * time.Second

// childDir makes this test binary a process that locks a directory and sleeps.
const childDir = "LOCK_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if _, err := Exclusive(context.Background(), dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		fixture.Elapse(2*patience,
			"holds the lock until it is killed, and not for ever should the parent die first")
		os.Exit(0)
	}
	fixture.Main(m)
}

// startHolder returns a running child that has dir locked.
func startHolder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "locked\n" {
		t.Fatalf("child said %q, %v; want that it locked %s", line, err, dir)
	}
	return cmd
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func mustLock(t *testing.T, dir string) *Lock {
	t.Helper()
	l, err := Exclusive(within(t, patience), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Unlock() })
	return l
}

// expectHeld fails unless an attempt to lock dir runs into its time limit.
func expectHeld(t *testing.T, dir string) {
	t.Helper()
	l, err := Exclusive(within(t, 20*time.Millisecond), dir)
	if err == nil {
		l.Unlock()
		t.Fatalf("%s could be locked twice", dir)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locking a held directory: %v, want the end of the context", err)
	}
}

// after calls f after d. The test does not end before f has.
func after(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(done)
		f()
	})
	t.Cleanup(func() { <-done })
}

func mountBPF(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestOneHolderAtATime(t *testing.T) {
	for name, dir := range map[string]func(*testing.T) string{
		"ordinary directory": func(t *testing.T) string { return t.TempDir() },
		"directory on bpffs": func(t *testing.T) string {
			dir := filepath.Join(mountBPF(t), "state")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			l := mustLock(t, d)
			expectHeld(t, d)
			if err := l.Unlock(); err != nil {
				t.Fatal(err)
			}
			mustLock(t, d)
		})
	}
}

func TestUnlockTwiceLeavesTheNextHolderAlone(t *testing.T) {
	dir := t.TempDir()
	first := mustLock(t, dir)
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	mustLock(t, dir)
	if err := first.Unlock(); err != nil {
		t.Errorf("second Unlock: %v", err)
	}
	expectHeld(t, dir)
}

func TestOneContenderAtATimeHasTheLock(t *testing.T) {
	dir := t.TempDir()
	ctx := within(t, patience)
	var inside, worst, turns int
	var guard sync.Mutex // for the race detector: flock is invisible to it
	count := func(delta int) {
		guard.Lock()
		defer guard.Unlock()
		inside += delta
		worst = max(worst, inside)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			l, err := Exclusive(ctx, dir)
			if err != nil {
				t.Error(err)
				return
			}
			count(+1)
			fixture.Elapse(time.Millisecond, "a turn is long enough to meet another")
			turns++ // unguarded on purpose: only the lock protects it
			count(-1)
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if worst != 1 || turns != 50 {
		t.Errorf("%d holders at once and %d turns, want 1 and 50", worst, turns)
	}
}

func TestWaiterGetsTheLockWhenItIsFree(t *testing.T) {
	dir := t.TempDir()
	l := mustLock(t, dir)
	after(t, 50*time.Millisecond, func() { l.Unlock() })
	start := time.Now()
	next, err := Exclusive(within(t, patience), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Unlock()
	if waited := time.Since(start); waited < 40*time.Millisecond {
		t.Errorf("got the lock after %v, before it was free", waited)
	}
}

func TestKilledHolderReleasesTheLock(t *testing.T) {
	dir := t.TempDir()
	child := startHolder(t, dir)
	expectHeld(t, dir)
	after(t, 20*time.Millisecond, func() { child.Process.Signal(unix.SIGKILL) })
	mustLock(t, dir)
}

func TestTimeoutNamesDirectoryHolderAndCure(t *testing.T) {
	for name, dir := range map[string]func(*testing.T) string{
		"ordinary directory": func(t *testing.T) string { return t.TempDir() },
		"directory on bpffs": mountBPF,
	} {
		t.Run(name, func(t *testing.T) {
			d := dir(t)
			child := startHolder(t, d)
			_, err := Exclusive(within(t, 20*time.Millisecond), d)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want the deadline", err)
			}
			for _, want := range []string{d, fmt.Sprintf("process %d (", child.Process.Pid), "stop it"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestEndOfContext(t *testing.T) {
	t.Run("before the call nothing is locked", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Exclusive(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("during the wait the lock is not taken later", func(t *testing.T) {
		dir := t.TempDir()
		l := mustLock(t, dir)
		ctx, cancel := context.WithCancel(context.Background())
		after(t, 20*time.Millisecond, cancel)
		if _, err := Exclusive(ctx, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		l.Unlock()
		mustLock(t, dir) // the waiter that gave up must have released it
	})
}

func TestReplacedDirectoryIsLockedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := mustLock(t, dir)
	got := make(chan *Lock, 1)
	go func() {
		l, err := Exclusive(within(t, patience), dir)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	fixture.Wait(t, "the waiter has opened the old one", func() bool { return fixture.OpenTwice(dir) })
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old.Unlock()
	l := <-got
	if l == nil {
		t.FailNow()
	}
	defer l.Unlock()
	expectHeld(t, dir)
	mustLock(t, dir+".old") // nobody may hold the directory that is gone
}

func TestDirectoryRemovedDuringTheWait(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := mustLock(t, dir)
	after(t, 50*time.Millisecond, func() {
		os.Remove(dir)
		l.Unlock()
	})
	_, err := Exclusive(within(t, patience), dir)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want fs.ErrNotExist for %s", err, dir)
	}
}

func TestLockRefusesPathsThatAreNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Exclusive(context.Background(), file); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("locking a file: %v, want ENOTDIR", err)
	}
	if _, err := Exclusive(context.Background(), file+".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("locking nothing: %v, want fs.ErrNotExist", err)
	}
}

func TestDescriptorIsNotInherited(t *testing.T) {
	l := mustLock(t, t.TempDir())
	flags, err := unix.FcntlInt(l.file.Fd(), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	if flags&unix.FD_CLOEXEC == 0 {
		t.Error("a child would keep the lock: FD_CLOEXEC is not set")
	}
}

func TestFlockOwner(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 10 00:2a:77 0 EOF
2: FLOCK  ADVISORY  WRITE 20 00:2a:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 30 00:2a:77 0 EOF
3: FLOCK  ADVISORY  WRITE 0 00:2a:78 0 EOF
`
	for _, c := range []struct {
		name string
		ino  uint64
		want string
	}{
		{"the holder, not its waiter or a POSIX lock", 77, "20"},
		{"a holder in another PID namespace is unknown", 78, ""},
		{"no holder", 79, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := flockOwner(locks, unix.Mkdev(0, 0x2a), c.ino); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func BenchmarkUncontended(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		l, err := Exclusive(context.Background(), dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Unlock(); err != nil {
			b.Fatal(err)
		}
	}
}
