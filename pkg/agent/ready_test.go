// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// hazardous makes the probes of an agent find these hazards, unguarded.
func hazardous(names ...string) func(*Agent) {
	return func(a *Agent) {
		a.Node.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
			return uint32(hazard.SetOf(names...)), 0, nil
		}
	}
}

// meaning sets what being ready means.
func meaning(r Readiness) func(*Agent) { return func(a *Agent) { a.ReadyMeans = r } }

// heads returns the lines of a text, each up to its first colon.
func heads(text string) (all []string) {
	for line := range strings.Lines(text) {
		head, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		all = append(all, head)
	}
	return all
}

// expectParts compares /readyz?verbose and the metrics.
func (r *running) expectParts(t *testing.T, when string, code int, parts ...string) {
	t.Helper()
	got, text := r.get(t, "/readyz?verbose")
	if list := strings.Join(heads(text), "\n"); got != code || list != strings.Join(parts, "\n") {
		t.Errorf("%s: readyz?verbose is %d\n%s\nwant %d\n%s", when, got, text, code, strings.Join(parts, "\n"))
	}
	_, metrics := r.get(t, "/metrics")
	want := map[bool]string{true: "sockmap_agent_ready 1\n",
		false: "sockmap_agent_ready 0\n"}[code == http.StatusOK]
	if !strings.Contains(metrics, want) {
		t.Errorf("%s: metrics have no %q", when, want)
	}
	for _, p := range parts {
		name, _, _ := strings.Cut(p[min(3, len(p)):], " ")
		want := `sockmap_agent_part_ready{part="` + name + `"} ` + map[bool]string{true: "1",
			false: "0"}[p[:3] == "[+]"]
		if strings.HasPrefix(p, "[") && !strings.Contains(metrics, want+"\n") {
			t.Errorf("%s: metrics have no %q", when, want)
		}
	}
}

func TestReadyInstalledListsHazardsAndIsReady(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start(hazardous("splice", "eagain"))
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	r.expectParts(t, "hazards are open", http.StatusOK, "[+]binary ok", "[+]programs ok", "[+]network ok",
		"[+]switch ok",
		"[-]hazards failed, which does not count here, reason hazards", "readyz check passed")
	if code, text := r.get(t, "/readyz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("readyz: %d %q", code, text)
	}
}

func TestReadyAcceleratingFollowsHazardsAndSwitch(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start(hazardous("splice"), meaning(ReadyAccelerating))
	eventually(t, "the plugin is chained", p.chained)
	eventually(t, "only the hazards are left", func() bool {
		_, text := r.get(t, "/readyz")
		return strings.HasPrefix(text, "hazards: this kernel has hazards") && strings.Count(text, "\n") == 1
	})
	r.expectParts(t, "hazards are open", http.StatusServiceUnavailable, "[+]binary ok", "[+]programs ok",
		"[+]network ok",
		"[+]switch ok", "[-]hazards failed, reason hazards", "readyz check failed")

	p = newPlace(t)
	p.Config = `{"acceptHazards":["splice"]}`
	p.write(file, list)
	r = p.start(hazardous("splice"), meaning(ReadyAccelerating))
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	n := &endpoint.Node{Dir: p.StateDir}
	if _, err := n.SetDisabled(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	r.expectParts(t, "switched off", http.StatusServiceUnavailable, "[+]binary ok", "[+]programs ok",
		"[+]network ok",
		"[-]switch failed, reason disabled", "[+]hazards ok", "readyz check failed")
	if _, err := n.SetDisabled(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if code, text := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("switched on: %d %q", code, text)
	}
}

// A removal by another process is reported at once, not at the next round.
func TestReadyReportsRemovedPrograms(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if _, err := (&endpoint.Node{Dir: p.StateDir}).Unload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	r.expectParts(t, "unloaded", http.StatusServiceUnavailable, "[+]binary ok",
		"[-]programs failed, reason not-loaded",
		"[+]network ok", "[-]switch failed, which does not count here, reason not-loaded",
		"[-]hazards failed, which does not count here, reason not-loaded", "readyz check failed")
}
