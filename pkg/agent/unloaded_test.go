// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Neither a running agent nor its successor undoes a user's decision.
func TestAnAgentDoesNotUndoDisableAndUnload(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	often := func(a *Agent) { a.Recheck = 100 * time.Millisecond }
	first := p.start(often)
	eventually(t, "it is ready", func() bool { return first.ready(t) })
	n := &endpoint.Node{Dir: p.StateDir}
	if _, err := n.SetDisabled(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if unloaded, err := n.UnloadOnRequest(t.Context(), false); err != nil || !unloaded {
		t.Fatalf("unloaded %v, %v", unloaded, err)
	}
	const told = "the programs are not loaded until a container is added or somebody asks for it"
	r := first
	for _, which := range []string{"the one that runs", "the next one"} {
		if which == "the next one" {
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			r = p.start(often)
		}
		eventually(t, which+" says that it does not load", func() bool { return len(r.log.Records(t, told)) > 0 })
		rounds := r.health.rounds()
		eventually(t, "it has looked again", func() bool { return r.health.rounds().After(rounds) })
		if p.loaded() {
			t.Fatalf("%s has loaded", which)
		}
		if !r.ready(t) || len(r.log.Records(t, told)) != 1 {
			t.Errorf("%s is ready: %v; it says %d times that it does not load", which, r.ready(t),
				len(r.log.Records(t, told)))
		}
	}
	if changed, err := n.ForgetUnload(t.Context()); err != nil || !changed {
		t.Fatalf("forgot %v, %v", changed, err)
	}
	eventually(t, "it is loaded", p.loaded)
	if !p.config(t).Disabled {
		t.Error("what the agent loaded is enabled")
	}
}

// rounds is the time of the last round.
func (h *health) rounds() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive
}
