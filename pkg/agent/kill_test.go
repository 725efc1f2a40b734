// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// run does what sockmapctl agent does.
func (s setup) run() error {
	if path := os.Getenv(limitVariable); path != "" {
		if err := limited(path); err != nil {
			return err
		}
	}
	a, err := s.agent(os.Stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Until the process ends: it may get the signal of its step and the test's, and the second must not kill it.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM)
	go func() {
		<-signals
		cancel()
	}()
	return a.Run(ctx)
}

// mostSteps bounds the loops over steps.
const mostSteps = 40

// killed runs an agent that signals itself at its step, and waits for its end. It returns false if there is
// no such step and the agent was stopped once it had finished.
func (p *place) killed(signal string, step int) bool {
	p.Helper()
	one := *p
	one.Step, one.Signal = step, signal
	log := &fixture.Output{}
	cmd := one.command(log)
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timeout, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for whole := 0; ; {
		select {
		case err := <-ended:
			if signal == "KILL" &&
				(err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL) ||
				signal == "TERM" && err != nil {
				p.Fatalf("step %d: it ended with %v\n%s", step, err, log)
			}
			return true
		case <-timeout:
			p.Fatalf("step %d: it neither ends nor is done\n%s", step, log)
		case <-tick.C:
		}
		if p.chained() && p.loaded() {
			whole++
		}
		if whole > 400 { // for 2 s, with nothing left to do, also under the race detector
			cmd.Process.Signal(unix.SIGTERM)
			if err := <-ended; err != nil {
				p.Fatalf("step %d: stopped, it ended with %v\n%s", step, err, log)
			}
			return false
		}
	}
}

// whole fails unless the network loads, and its plugins exist.
func (p *place) whole(what string) {
	p.Helper()
	types := p.types()
	if len(types) == 0 || types[0] != "cilium-cni" {
		p.Errorf("%s: plugins are %q", what, types)
	}
	if _, err := os.Stat(filepath.Join(p.BinDir, install.PluginType)); p.chained() && err != nil {
		p.Errorf("%s: chained without the binary: %v", what, err)
	}
}

func TestAgentEndedAtAnyStepIsRepairedByNextAgent(t *testing.T) {
	for _, signal := range []string{"KILL", "TERM"} {
		steps := 0
		for step := 1; ; step++ {
			if step > mostSteps {
				t.Fatal("it never ends")
			}
			p := newPlace(t)
			p.write(file, list)
			if !p.killed(signal, step) {
				break
			}
			steps++
			what := fmt.Sprintf("SIG%s at step %d", signal, step)
			p.whole(what)
			if left := p.leftovers(); signal == "TERM" && len(left) > 0 {
				t.Errorf("%s left %q", what, left)
			}
			r := p.start(func(a *Agent) { a.Listen, a.Serving = "", nil })
			eventually(t, "the next agent is done after "+what, func() bool { return ready(r.partStatuses()) == nil })
			r.stop()
			p.whole(what + ", and the next agent")
			if left := p.leftovers(); len(left) > 0 || !p.chained() || !p.loaded() {
				t.Errorf("%s, and the next agent: left %q, chained: %v, loaded: %v", what, left, p.chained(), p.loaded())
			}
		}
		if steps < 9 {
			t.Errorf("SIG%s: only %d steps", signal, steps)
		}
	}
}

// The newest agent is in charge of the node. Its predecessor does not fight it, but takes over again when it
// dies.
func TestOlderAgentYieldsAndTakesOverWhenNewerDies(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	p.Config = `{"maxSockets":1111}`
	old := p.start(func(a *Agent) { a.Recheck = time.Second })
	eventually(t, "the first is ready", func() bool { return old.ready(t) })
	has := func(text string) func() bool {
		return func() bool {
			now, err := os.ReadFile(filepath.Join(p.ConfDir, file))
			return err == nil && strings.Contains(string(now), text)
		}
	}
	newer := *p
	newer.Config = `{"maxSockets":2222}`
	log := &fixture.Output{}
	cmd := newer.command(log)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "the second one's entry is there", has("2222"))
	eventually(t, "the first has noticed", func() bool {
		code, text := old.get(t, "/readyz")
		return code != http.StatusOK && strings.Contains(text, "has taken over")
	})
	// Twice the interval of the first agent.
	if fixture.Within(2*time.Second, func() bool { return !has("2222")() }) {
		t.Fatal("the first fights the second")
	}
	if n := len(old.log.Records(t,
		"another agent has taken over, and this one only watches from now on")); n != 1 {
		t.Errorf("it said so %d times", n)
	}
	// Only one of them repairs what a third component does.
	p.write(file, list)
	eventually(t, "the second one's entry is there again", has("2222"))
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the first takes over again", has("1111"))
	eventually(t, "and is ready", func() bool { return old.ready(t) })
	if err := old.stop(); err != nil {
		t.Error(err)
	}
	if left := p.leftovers(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// Where the limit of inotify is reached, directories are looked at instead of watched. The limit is that of a
// user namespace of its own, where no programs can be loaded: with "required" the plugin is still chained.
func TestAgentPollsDirectoriesAtTheLimitOfInotify(t *testing.T) {
	for limit, want := range map[string]string{
		"max_inotify_instances": "fs.inotify.max_user_instances",
		"max_inotify_watches":   "fs.inotify.max_user_watches",
	} {
		t.Run(limit, func(t *testing.T) {
			p := newPlace(t)
			p.write(file, list)
			p.Config = `{"required":true}`
			log := &fixture.Output{}
			cmd := p.command(log)
			cmd.Env = append(cmd.Env, limitVariable+"=/proc/sys/user/"+limit)
			release, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer cmd.Process.Kill()
			eventually(t, "it is chained", p.chained)
			const message = "directories cannot be watched and are read every 100ms instead"
			records := log.Records(t, message)
			if len(records) != 1 || !strings.Contains(fmt.Sprint(records[0]["error"]), want) {
				t.Errorf("it says %v, want once, with %s\n%s", records, want, log)
			}
			p.write(file, list)
			eventually(t, "the change is seen without events", p.chained)
			// With a higher limit it watches again.
			release.Close()
			eventually(t, "it says that it watches again", func() bool {
				for _, r := range log.Records(t, "resolved") {
					if r["subject"] == "watch" {
						return true
					}
				}
				return false
			})
			cmd.Process.Signal(unix.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("it ended with %v\n%s", err, log)
			}
		})
	}
}

// limitVariable names a file whose number is 0 until standard input ends.
const limitVariable = "AGENT_TEST_LIMIT"

func limited(path string) error {
	if err := os.WriteFile(path, []byte("0"), 0); err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.WriteFile(path, []byte("1000"), 0)
	}()
	return nil
}

func TestAnAgentLeavesNothingOpen(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	cycle := func() {
		r := p.start()
		eventually(t, "it is ready", func() bool { return r.ready(t) })
		p.write(file, list)
		eventually(t, "it is chained", p.chained)
		r.stop()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
	count := func() (files, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	cycle()
	files, goroutines := count()
	for range 3 {
		cycle()
	}
	eventually(t, fmt.Sprintf("%d files and %d goroutines are left", files, goroutines), func() bool {
		f, g := count()
		return f <= files && g <= goroutines
	})
}

func TestThrottleGrowsAndIsReset(t *testing.T) {
	var th throttle
	now := time.Now()
	for n, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if got := th.hit(now); got != want*time.Second || th.wait(now) != got {
			t.Errorf("repair %d: the next has to wait %v, want %v", n+1, got, want*time.Second)
		}
		now = now.Add(want*time.Second + time.Second)
		if left := th.wait(now); left != 0 {
			t.Errorf("repair %d: %v left after its wait", n+1, left)
		}
	}
	if got := th.hit(now.Add(throttleQuiet + time.Second)); got != throttleFirst {
		t.Errorf("after a quiet time the next has to wait %v", got)
	}
}

func TestStuckLoopIsNotHealthy(t *testing.T) {
	var h health
	h.init(time.Second)
	if err := h.healthy(); err != nil {
		t.Error(err)
	}
	h.alive = time.Now().Add(-stuckAfter - 2*time.Second)
	if err := h.healthy(); err == nil {
		t.Error("it is healthy")
	}
	h.beat()
	if err := h.healthy(); err != nil {
		t.Error(err)
	}
}
