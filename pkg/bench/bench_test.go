// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func TestMain(m *testing.M) {
	Main()
	fixture.Main(m)
}

var settings = datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096,
	Version: "test"}

// cgroupsOf lists what a run of process pid has left.
func cgroupsOf(t *testing.T, pid int) []string {
	t.Helper()
	mount, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(mount.Path, "sockmap-bench-"+strconv.Itoa(pid)+"-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestPlainAndAcceleratedAreMeasuredAndRequestsRedirected(t *testing.T) {
	r, err := Run(t.Context(), Options{Duration: 3 * time.Second, OtherCPU: otherCPU(), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	want := len(Cases())
	if otherCPU() < 0 {
		want /= 2
	}
	if len(r.Results) != want {
		t.Fatalf("%d results, want %d", len(r.Results), want)
	}
	for _, r := range r.Results {
		if len(r.Plain) != Rounds || len(r.Accelerated) != Rounds || r.Ratio().Low <= 0 ||
			r.Ratio().High < r.Ratio().Low {
			t.Errorf("%+v: ratio %+v", r, r.Ratio())
		}
		if r.Sent == 0 || r.Redirected > r.Sent || !r.WasRedirected(r.Sent, r.Redirected) {
			t.Errorf("%+v: %d of %d bytes were redirected", r.Case, r.Redirected, r.Sent)
		}
	}
	testGuardCosts(t, r)
	if left := cgroupsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// testGuardCosts expects costs if a guard runs, and for each guard whether it runs.
func testGuardCosts(t *testing.T, r Report) {
	t.Helper()
	active := slices.ContainsFunc(r.Guards, func(g datapath.GuardState) bool { return g.Active })
	if len(r.Guards) != len(datapath.Guards) || active != (len(r.Costs) > 0) {
		t.Errorf("guards %+v, %d costs", r.Guards, len(r.Costs))
	}
	for _, c := range r.Costs {
		if len(c.With) != Rounds || len(c.Without) != Rounds || c.Ratio().Value <= 0 {
			t.Errorf("%+v", c)
		}
	}
}

// otherCPU is where the second end of a test runs: CPU 0 has the first.
func otherCPU() int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil || !allowed.IsSet(1) {
		return -1
	}
	return 1
}

func TestRequestsOverTCPDoNotCountAsRedirected(t *testing.T) {
	requests := Case{Kind: wire.Requests, Bytes: 64}
	for redirected, want := range map[uint64]bool{1000 * 64: true, 900 * 64: true, 899 * 64: false, 0: false} {
		if got := requests.WasRedirected(1000*64, redirected); got != want {
			t.Errorf("%d of 64000 bytes redirected: %v", redirected, got)
		}
	}
	if !(Case{Kind: wire.Stream, Bytes: 64}).WasRedirected(64000, 0) {
		t.Error("a stream that was left to TCP is refused")
	}
}

const runVariable = "BENCH_TEST_RUN"

// TestRunForKill is the process that the next test kills.
func TestRunForKill(t *testing.T) {
	if os.Getenv(runVariable) == "" {
		return
	}
	_, err := Run(t.Context(), Options{Duration: time.Minute, OtherCPU: -1, Settings: settings})
	t.Fatalf("ended by itself: %v", err)
}

func TestNothingIsLeftAfterAKill(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRunForKill$")
	cmd.Env = append(os.Environ(), runVariable+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "it has begun", func() bool { return len(cgroupsOf(t, cmd.Process.Pid)) == 2 })
	fixture.Elapse(300*time.Millisecond, "into the traffic, at any moment of which it may be killed")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	within(t, "its cgroups are gone, and with them its processes",
		func() bool { return len(cgroupsOf(t, cmd.Process.Pid)) == 0 })
}

func TestInterruptedRunRemovesItsCgroups(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, Options{Duration: time.Minute, OtherCPU: -1, Settings: settings}); err == nil {
		t.Error("an interrupted run has no error")
	}
	if left := cgroupsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	fixture.Wait(t, what, ok)
}
