// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

var settings = datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, Version: "test"}

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

func TestBothSidesAreMeasuredAndRequestsRedirected(t *testing.T) {
	results, err := Run(t.Context(), Options{Duration: 1500 * time.Millisecond, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(Cases()) {
		t.Fatalf("%d results", len(results))
	}
	for _, r := range results {
		if len(r.Plain) != Rounds || len(r.Accelerated) != Rounds || Median(r.Plain) <= 0 || Median(r.Accelerated) <= 0 {
			t.Errorf("%+v", r)
		}
		if r.Sent == 0 || r.Redirected > r.Sent || !r.WasRedirected(r.Sent, r.Redirected) {
			t.Errorf("%s of %d B: %d of %d bytes were redirected", r.Kind, r.Bytes, r.Redirected, r.Sent)
		}
	}
	if left := cgroupsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

const runVariable = "BENCH_TEST_RUN"

// TestRunForKill is what the next test kills.
func TestRunForKill(t *testing.T) {
	if os.Getenv(runVariable) == "" {
		return
	}
	_, err := Run(t.Context(), Options{Duration: time.Minute, Settings: settings})
	t.Fatalf("ended by itself: %v", err)
}

func TestNothingIsLeftAfterAKill(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRunForKill$")
	cmd.Env = append(os.Environ(), runVariable+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "it has begun", func() bool { return len(cgroupsOf(t, cmd.Process.Pid)) == 2 })
	time.Sleep(300 * time.Millisecond) // into the traffic
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	within(t, "its cgroups are gone, and with them its processes", func() bool { return len(cgroupsOf(t, cmd.Process.Pid)) == 0 })
}

func TestInterruptionEndsInGoodOrder(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, Options{Duration: time.Minute, Settings: settings}); err == nil {
		t.Error("an interrupted run has no error")
	}
	if left := cgroupsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
