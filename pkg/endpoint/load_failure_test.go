// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// failing is a probe that returns err after a delay, and counts its calls.
type failing struct {
	asked atomic.Int32
	err   error
	takes time.Duration
}

func (f *failing) probe(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
	f.asked.Add(1)
	fixture.Elapse(f.takes, "a probe that takes long")
	return 0, 0, f.err
}

func TestALoadThatFailsIsNotRepeatedForEachContainer(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	f := &failing{err: errors.New("probe hazards: signal: killed"), takes: 300 * time.Millisecond}
	n.Settings.Probe, n.LockTimeout = f.probe, patience
	var (
		wg     sync.WaitGroup
		failed atomic.Int32
	)
	for i := range 6 {
		sb := container(t, fmt.Sprint("c", i))
		wg.Go(func() {
			if _, err := n.Add(context.Background(), sb, in(g)); errors.Is(err, ErrLoadFailed) {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if f.asked.Load() != 1 || failed.Load() != 5 {
		t.Errorf("loaded %d times, %d of 6 got the error of an earlier failure; want 1 and 5", f.asked.Load(),
			failed.Load())
	}
	hold(t, n.Dir) // a call that only returns the recorded failure does not need it
	_, err := n.Add(t.Context(), container(t, "late"), in(g))
	for _, part := range []string{"signal: killed", "sockmapctl load", "ago"} {
		if !errors.Is(err, ErrLoadFailed) || !strings.Contains(err.Error(), part) {
			t.Errorf("ADD says %v, want %q", err, part)
		}
	}
	if err := n.Ready(t.Context()); !errors.Is(err, ErrLoadFailed) {
		t.Errorf("STATUS says %v", err)
	}
	if _, err := n.LoadUnlessUnloaded(t.Context()); !errors.Is(err, ErrLoadFailed) {
		t.Errorf("the agent gets %v", err)
	}
	if f.asked.Load() != 1 {
		t.Errorf("loaded %d times", f.asked.Load())
	}
}

// failed returns a node on which loading has just failed.
func failed(t *testing.T, err error) (*Node, *failing) {
	t.Helper()
	n, f := newNode(t), &failing{err: err}
	n.Settings.Probe = f.probe
	if _, got := n.LoadUnlessUnloaded(t.Context()); !errors.Is(got, err) {
		t.Fatalf("load: %v, want %v", got, err)
	}
	return n, f
}

func TestFailedLoadIsRetriedAfterAMinuteOrAChange(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		change func(t *testing.T, n *Node)
		again  bool
	}{
		"nothing":         {func(*testing.T, *Node) {}, false},
		"other version":   {func(_ *testing.T, n *Node) { n.Settings.Version = "v7" }, true},
		"other size":      {func(_ *testing.T, n *Node) { n.Settings.MaxSockets = 2048 }, true},
		"other guards":    {func(_ *testing.T, n *Node) { n.Settings.WithoutGuards = []string{"splice"} }, true},
		"other probes":    {func(_ *testing.T, n *Node) { n.Settings.ProbeSet = "other" }, true},
		"other bound":     {func(_ *testing.T, n *Node) { n.Settings.MaxBacklogBytes++ }, false},
		"a minute later":  {func(t *testing.T, n *Node) { age(t, n, retryAfter) }, true},
		"half a minute":   {func(t *testing.T, n *Node) { age(t, n, retryAfter/2) }, false},
		"unloaded before": {func(t *testing.T, n *Node) { mustUnload(t, n) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			n, f := failed(t, broken)
			c.change(t, n)
			_, err := n.LoadUnlessUnloaded(t.Context())
			if asked := f.asked.Load() == 2; asked != c.again || asked != errors.Is(err, broken) ||
				asked == errors.Is(err, ErrLoadFailed) {
				t.Errorf("loaded %d times, %v", f.asked.Load(), err)
			}
		})
	}
}

// age makes the recorded failure older.
func age(t *testing.T, n *Node, by time.Duration) {
	t.Helper()
	f, ok := datapath.LastFailure(n.Dir)
	if !ok {
		t.Fatal("no failure is remembered")
	}
	pin := n.Dir + "/new-failed"
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	target := fmt.Sprintf("%d %s %d %s", max(0, now.Nano()-by.Nanoseconds()), f.Maker, f.Why, f.Reason)
	if err := errors.Join(err, os.Remove(pin), os.Symlink(target, pin)); err != nil {
		t.Fatal(err)
	}
}

func mustUnload(t *testing.T, n *Node) {
	t.Helper()
	if _, err := n.Unload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func TestLoadTriesAtOnceAndItsSuccessIsRemembered(t *testing.T) {
	n, f := failed(t, errors.New("broken"))
	f.err = nil
	if loaded, err := n.Load(t.Context()); !loaded || err != nil {
		t.Fatalf("load: %v, %v", loaded, err)
	}
	if last, ok := datapath.LastFailure(n.Dir); ok {
		t.Errorf("%+v is still remembered", last)
	}
	mustAdd(t, n, container(t, "one"), in(newGroup(t)))
}

func TestRetryOfAFailedLoadDoesNotBlockOtherCalls(t *testing.T) {
	n, f := failed(t, errors.New("broken"))
	age(t, n, retryAfter)
	f.takes = time.Second
	ended := make(chan error, 1)
	go func() {
		_, err := n.LoadUnlessUnloaded(context.Background())
		ended <- err
	}()
	fixture.Wait(t, "somebody tries again", func() bool { return f.asked.Load() == 2 })
	_, err := n.LoadUnlessUnloaded(t.Context())
	select {
	case <-ended:
		t.Error("a second call has waited for the first")
	default:
	}
	if !errors.Is(err, ErrLoadFailed) || f.asked.Load() != 2 {
		t.Errorf("%v, loaded %d times", err, f.asked.Load())
	}
	<-ended
}

// A process without rights, or with too few descriptors, fails where the next one may succeed.
func TestLoadThatFailsForTheCallerIsNotRemembered(t *testing.T) {
	for _, errno := range []error{unix.EPERM, unix.EACCES, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		n, f := failed(t, fmt.Errorf("make a map: %w", errno))
		f.err = nil
		if loaded, err := n.LoadUnlessUnloaded(t.Context()); !loaded || err != nil {
			t.Errorf("%v: the next: %v, %v", errno, loaded, err)
		}
	}
}
