// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
)

// aloneVariable is set in the process that has a network namespace of its own.
const aloneVariable = "WIRE_TEST_ALONE"

func TestMain(m *testing.M) {
	Main()
	fixture.Main(m)
}

// here starts ends in the network namespace of the process.
type here struct{}

func (here) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}
func (here) Start(cmd *exec.Cmd) error { return cmd.Start() }

// TestTraffic runs itself again in a network namespace of its own: ends change its sysctls.
func TestTraffic(t *testing.T) {
	if os.Getenv(aloneVariable) != "" {
		testTraffic(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^TestTraffic$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func testTraffic(t *testing.T) {
	if err := loopback.Up(); err != nil {
		t.Fatal(err)
	}
	client, server := start(t, "client"), start(t, "server")
	for _, o := range []Order{
		{Kind: Requests, Size: 64}, {Kind: Requests, Size: 100, Take: 7}, {Kind: Requests, Size: 256 << 10},
		{Kind: Requests, Size: 64, Addr: "@wire-test"},
		{Kind: Stream, Size: 64}, {Kind: Stream, Size: 64 << 10, Pause: 100 * time.Microsecond},
		{Kind: Stream, Size: 1024, Addr: "@wire-test", Busy: true},
		{Kind: Many, Size: 64, Conns: 20}, {Kind: Idle, Size: 64, Conns: 20}, {Kind: Churn, Size: 64},
		{Kind: Requests, Size: 64, Spin: 200 * time.Microsecond},
	} {
		o.Warm, o.Time = 5*time.Millisecond, 20*time.Millisecond
		if o.Addr == "" {
			o.Addr = "127.0.0.1:0"
		}
		held := false
		c, s, err := Talk(client, server, o, 0, 0, func() error { held = true; return nil })
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		if s.Got != c.Sent || c.Got != s.Sent || c.Sent == 0 || held != (o.Kind == Idle) {
			t.Errorf("%+v: client %+v, server %+v, held %v", o, c, s, held)
		}
		if (o.Kind == Requests || o.Kind == Many || o.Kind == Churn) &&
			(c.Rate() == 0 || c.P50 == 0 || c.P50 > c.P999) {
			t.Errorf("%+v: client %+v", o, c)
		}
		if c.P50 < o.Spin {
			t.Errorf("%+v: an answer within %v", o, c.P50)
		}
		if o.Kind == Requests && !onUnix(o.Addr) && c.TCP != c.Sent {
			t.Errorf("%d bytes sent, and %d by TCP", c.Sent, c.TCP)
		}
	}
}

func start(t *testing.T, name string) *Agent {
	a, err := Start(t.Context(), name, here{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	return a
}

func TestEndTakesTheNextOrderAfterAnError(t *testing.T) {
	if os.Getenv(aloneVariable) != "" {
		t.Skip("not alone")
	}
	e := &end{}
	answer := func(Answer) error { return nil }
	for _, o := range []Order{{Kind: "nothing"}, {Kind: Requests, Addr: "nowhere"},
		{Kind: Requests, Addr: "@nobody-listens-here"}} {
		if _, err := e.do(o, answer, nil); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestIdleTimeIsRead(t *testing.T) {
	stat := "cpu  10 20 30 400 50 60 70 8 0 0\ncpu0 5 10 15 200 25 30 35 4 0 0\ncpu1 5 10 15 200 25 30 35 4 0 0\nintr 1\n"
	sum, cpus, err := idleIn([]byte(stat))
	if err != nil || sum != 4580*time.Millisecond || cpus != 2 {
		t.Errorf("%v, %d CPUs, %v", sum, cpus, err)
	}
	if _, _, err := idleIn([]byte("cpu  1 2\n")); err == nil {
		t.Error("half a line is taken")
	}
}
