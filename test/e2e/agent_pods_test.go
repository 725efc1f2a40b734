// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// agentPatience bounds, on a busy machine, what an agent does immediately.
const agentPatience = 30 * time.Second

// runningAgent is sockmapctl agent as its own process on a lab node.
type runningAgent struct {
	*older
	cmd     *exec.Cmd
	address string
	log     fixture.Output
}

func (a *runningAgent) said(text string) int { return strings.Count(a.log.String(), text) }

// agent starts one. The network's list must be without sockmap, or be the agent's.
func (o *older) agent(args ...string) *runningAgent {
	o.Helper()
	plugins := labtest.Plugins(o.T)
	bin := o.T.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	a := &runningAgent{older: o, address: address}
	a.cmd = exec.Command(filepath.Join(plugins, "sockmapctl"), append([]string{
		"--bpffs-path", o.node.BPFFS(), "agent", "--plugin", filepath.Join(plugins, "sockmap"), "--cni-bin-dir",
		bin,
		"--cni-conf-dir", o.confDir, "--cni-cache-dir", filepath.Join(o.node.Dir(), "cni"), "--cri", "none",
		"--listen", address, "--accept-hazards", "all", "--pods-interval", "1s",
	}, args...)...)
	a.cmd.Stderr, a.cmd.Stdout = &a.log, &a.log
	if err := a.cmd.Start(); err != nil {
		o.Fatal(err)
	}
	o.Cleanup(a.stop)
	return a
}

func (a *runningAgent) stop() {
	if a.cmd.ProcessState != nil {
		return
	}
	if err := a.cmd.Process.Signal(unix.SIGTERM); err != nil {
		a.Error(err)
	}
	if err := a.cmd.Wait(); err != nil || a.Failed() {
		a.Errorf("the agent ended with %v\n%s", err, &a.log)
	}
}

// eventually waits for an effect of the agent.
func (a *runningAgent) eventually(what string, cond func() bool) {
	a.Helper()
	fixture.WaitFor(a.T, agentPatience, what, cond)
}

// metric is one line of /metrics, empty where there is none.
func (a *runningAgent) metric(series string) string {
	answer, err := http.Get("http://" + a.address + "/metrics")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (a *runningAgent) pods(state, reason string) string {
	return a.metric(fmt.Sprintf("sockmap_pods{reason=%q,state=%q}", reason, state))
}

// looksAgain waits until the agent has looked at all pods once more.
func (a *runningAgent) looksAgain() {
	a.Helper()
	const looked = "sockmap_agent_pods_looked_timestamp_seconds"
	before := a.metric(looked)
	a.eventually("it looks at the pods again", func() bool {
		now := a.metric(looked)
		return now != "" && now != before
	})
}

// withoutEntry removes the plugin from the network's list.
func (o *older) withoutEntry() {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.confDir, "10-net.conflist"), o.before, 0o600); err != nil {
		o.Fatal(err)
	}
}

func TestAgentCountsPodsThatAreLeftOut(t *testing.T) {
	o := newOlder(t, nil)
	o.oldPod(nil)
	o.oldPod(nil)
	o.withoutEntry()
	a := o.agent()
	a.eventually("two are counted as older", func() bool { return a.pods("left-out", "older") == "2" })
	if got := a.pods("accelerated", ""); got != "0" {
		t.Errorf("accelerated: %q", got)
	}
	if a.said("adopted a pod") != 0 {
		t.Error("it adopts without --adopt")
	}
}

// An agent that adopts: earlier pods, and opted-out ones; changes of its configuration reach them; it does
// not undo an unload by a person.
func TestTheAgentAdoptsAndFollows(t *testing.T) {
	o := newOlder(t, nil)
	x, y := o.oldPod(nil), o.oldPod(nil)
	o.oldPod(map[string]string{cniconf.AnnotationAccelerate: "false"})
	old := o.withoutDatapath(x, y)
	o.withoutEntry()
	a := o.agent("--adopt")
	a.eventually("all are adopted", func() bool { return a.pods("accelerated", "") == "2" })
	if out, left := a.pods("opted-out", "opted-out"), a.pods("left-out", "older"); out != "1" || left != "0" {
		t.Errorf("opted out %s, left out %s", out, left)
	}
	a.eventually("each is logged once", func() bool { return a.said("adopted a pod that ran before") == 3 })
	if got := a.metric("sockmap_agent_adopted_total"); got != "3" {
		t.Errorf("adopted: %s", got)
	}
	duplex(t, old[0], old[1], 10_000)
	wantPlain(t, o.datapath(), old[0], old[1])
	l := o.live(x, y, 7000)
	l.follows(true, time.Now())

	// A person unloads: the agent neither loads again nor adopts before a person asks for it.
	l.d.Close()
	if _, err := o.endpointNode().UnloadOnRequest(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	a.eventually("it knows of the unload", func() bool {
		return a.said("unload") > 0 || a.pods("left-out", "older") == "3"
	})
	for range 2 { // the first of these looks may have begun before the unload
		a.looksAgain()
	}
	if _, err := datapath.Open(o.node.BPFFS()); err == nil {
		t.Error("the agent has loaded after a person unloaded")
	}
	a.stop()

	// Its successor has another configuration.
	b := o.agent("--adopt", "--config", `{"ports": {"exclude": ["5432"]}}`)
	if _, err := o.endpointNode().Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eventually("all are adopted again", func() bool { return b.pods("accelerated", "") == "2" })
	if o.redirects(x, y, 5432) || !o.redirects(x, y, 5433) {
		t.Error("the ports are not those of the configuration")
	}
	b.stop()
	c := o.agent("--adopt", "--config", `{"ports": {"exclude": ["6000"]}}`)
	c.eventually("the change is reported for each pod", func() bool {
		return c.said(`change="ports.exclude: 5432, now 6000"`) == 2
	})
	if !o.redirects(x, y, 5432) || o.redirects(x, y, 6000) {
		t.Error("the ports are not those of the new configuration")
	}
}

// Settings that need new maps or guards follow the configuration, too, and no live connection notices.
func TestTheAgentChangesTheSizeUnderLiveConnections(t *testing.T) {
	o := newOlder(t, nil)
	o.withoutEntry()
	first := o.agent("--adopt", "--config", `{"maxSockets": 4096}`)
	x, y := o.oldPod(nil), o.oldPod(nil)
	first.eventually("both are adopted", func() bool { return first.pods("accelerated", "") == "2" })
	l := o.live(x, y, 80)
	l.follows(true, time.Now())
	first.stop()
	second := o.agent("--adopt", "--config", `{"maxSockets": 16384, "guards": ["splice", "observe"]}`)
	second.eventually("the size is the new one", func() bool {
		d, err := datapath.Open(o.node.BPFFS())
		if err != nil {
			return false
		}
		defer d.Close()
		cfg, err := d.Config()
		return err == nil && cfg.MaxSockets == 16384
	})
	second.eventually("it is logged", func() bool { return second.said("upgraded the programs") == 1 })
	// The old maps have the flow now, so its bytes are counted there.
	duplex(t, l.client, l.server, 100_000)
	draining, err := datapath.ListDraining(o.node.BPFFS())
	if err != nil || len(draining) != 1 || draining[0].Sockets != 2 {
		t.Errorf("draining: %v, %v", draining, err)
	}
	if !o.redirects(x, y, 81) {
		t.Error("a new connection is not redirected")
	}

	// One more change waits for the flows of the first; nothing else waits.
	second.stop()
	third := o.agent("--adopt", "--config", `{"maxSockets": 8192}`, "--recheck-interval", "1s")
	third.eventually("it reports what it waits for", func() bool {
		return third.said("are not in force yet; everything else continues") == 1
	})
	third.eventually("it is ready while it waits",
		func() bool { return third.metric("sockmap_agent_ready") == "1" })
	l.client.Close()
	l.server.Close()
	third.eventually("the size is the newest one",
		func() bool { return third.said("upgraded the programs") == 1 })
}

// If two agents run, the newer one adopts, and the older one does not.
func TestOnlyTheNewerOfTwoAgentsAdopts(t *testing.T) {
	o := newOlder(t, nil)
	o.withoutEntry()
	first := o.agent("--adopt")
	first.eventually("it serves", func() bool { return first.pods("accelerated", "") == "0" })
	second := o.agent("--adopt")
	first.eventually("the first gives way",
		func() bool { return first.said("another agent has taken over") == 1 })
	for range 4 {
		o.oldPod(nil)
	}
	second.eventually("all are adopted", func() bool { return second.pods("accelerated", "") == "4" })
	first.eventually("the first sees it", func() bool { return first.pods("accelerated", "") == "4" })
	if n := first.said("adopted a pod") + second.said("adopted a pod"); n != 4 ||
		second.said("adopted a pod") != 4 {
		t.Errorf("%d adoptions, %d by the second", n, second.said("adopted a pod"))
	}
}

// withoutDatapath connects two pods before anything is loaded.
func (o *older) withoutDatapath(client, server *lab.Pod) []net.Conn {
	o.Helper()
	l := listen(o.T, &server.Place, at(server.IP4(), 81))
	c, s := connect(o.T, &client.Place, at(server.IP4(), 81), l)
	duplex(o.T, c, s, 1000)
	return []net.Conn{c, s}
}
