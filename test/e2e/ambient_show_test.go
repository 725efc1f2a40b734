// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
)

// sockmapctl runs the command line on the world's node, and reads its JSON.
func (w *world) sockmapctl(into any, args ...string) {
	w.Helper()
	args = append(args, "-o", "json", "--bpffs-path", w.node.BPFFS())
	out, err := w.node.Output(w.Context(), filepath.Join(w.node.Bin(), "sockmapctl"), args...)
	if err != nil {
		w.Fatal(err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
}

// explained is the output of explain for the first direction.
type explained struct {
	Matches    int
	Directions []struct {
		From, To string
		Outcome  explain.Outcome
		Answer   string
	}
}

// The owner of a socket is the pod whose network namespace it is in, even if another process made it.
func TestHopsOfZtunnelAreShownAsThoseOfApplications(t *testing.T) {
	m := newAmbient(t, nil)
	c := m.join()
	c.want(allHops)
	type end struct{ Pod string }
	var pairs struct {
		Items []struct{ Client, Server *end }
	}
	m.sockmapctl(&pairs, "flows", "--pairs")
	var shown []string
	for _, p := range pairs.Items {
		shown = append(shown, p.Client.Pod+" "+p.Server.Pod)
	}
	slices.Sort(shown)
	if want := []string{"db db", "front db", "front front"}; !slices.Equal(shown, want) {
		t.Errorf("flows shows %q, want %q", shown, want)
	}
	for _, ends := range [][]string{
		{c.client.LocalAddr().String(), c.client.RemoteAddr().String()},
		{"web/front", "shop/db"},
		{"web/front", "shop/db:15008"},
		{"web/front", "web/front:15001"},
		{"shop/db", "shop/db:8080"},
	} {
		var e explained
		m.sockmapctl(&e, "explain", ends[0], ends[1])
		if e.Matches != 1 || e.Directions[0].Outcome != explain.Redirected {
			t.Errorf("explain %q: %+v", ends, e)
		}
	}
	var e explained
	m.sockmapctl(&e, m.explainSocketOfZtunnel()...)
	if e.Matches != 1 || e.Directions[0].Outcome != explain.Redirected ||
		!strings.Contains(e.Directions[0].From, "(shop/db)") {
		t.Errorf("explain of ztunnel's socket: %+v", e)
	}
}

// A socket of a ztunnel that is not accelerated is in the network namespace of an accelerated pod: it is
// ztunnel's own cgroup that has no link.
func TestASocketOfAZtunnelThatOptedOutIsExplained(t *testing.T) {
	w := newWorld(t, nil)
	m := enroll(t, w, w.pod(optedOut(ztunnelSpec)), w.pod(clientSpec), w.pod(serverSpec), false)
	m.join().want("")
	var e explained
	m.sockmapctl(&e, m.explainSocketOfZtunnel()...)
	if e.Matches != 0 || e.Directions[0].Outcome != explain.ByTCP ||
		!strings.Contains(e.Directions[0].Answer, "has no link") {
		t.Errorf("%+v", e)
	}
}

// explainSocketOfZtunnel are the arguments that explain its end of the tunnel in the server's pod.
func (m *ambient) explainSocketOfZtunnel() []string {
	m.Helper()
	pid := m.proxy.cmd.Process.Pid
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		m.Fatal(err)
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			m.Fatal(err)
		}
		s, err := explain.ReadSocket(pid, fd)
		if err == nil && s.Connected && s.Local.Port() == ztunnelTunnel {
			return []string{"explain", "--pid", fmt.Sprint(pid), "--fd", fmt.Sprint(fd)}
		}
	}
	m.Fatal("ztunnel has no socket at its tunnel's port")
	return nil
}
