// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func TestAnAddLoadsAfterAnUnloadOnRequest(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	load(t, n)
	if unloaded, err := n.UnloadOnRequest(t.Context(), false); !unloaded || err != nil {
		t.Fatalf("unloaded %v, %v", unloaded, err)
	}
	if unloaded, err := n.UnloadOnRequest(t.Context(), false); unloaded || err != nil {
		t.Errorf("the second time: unloaded %v, %v", unloaded, err)
	}
	if loaded, err := n.LoadUnlessUnloaded(t.Context()); loaded || !errors.Is(err, ErrUnloadedOnRequest) {
		t.Errorf("loaded %v, %v", loaded, err)
	}
	// Runtimes call STATUS all the time.
	if err := n.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if _, err := datapath.Open(n.Dir); !errors.Is(err, datapath.ErrNotLoaded) {
		t.Errorf("open: %v", err)
	}
	if out := mustAdd(t, n, sb, in(g)); !out.Loaded || out.Disabled {
		t.Errorf("add: %+v", out)
	}
	if loaded, err := n.LoadUnlessUnloaded(t.Context()); loaded || err != nil {
		t.Errorf("after the add: loaded %v, %v", loaded, err)
	}
	mustDel(t, n, sb)
}

// The mark is checked again under the lock, because a user may unload between the first check and the load.
func TestAnUnloadOnRequestJustBeforeTheLoadCounts(t *testing.T) {
	n := newNode(t)
	load(t, n)
	other := *n
	unloaded := false
	n.Step = func(step string) error {
		if step != "directory" || unloaded {
			return nil
		}
		unloaded = true
		_, err := other.UnloadOnRequest(t.Context(), false)
		return err
	}
	if _, err := n.LoadUnlessUnloaded(t.Context()); !unloaded || !errors.Is(err, ErrUnloadedOnRequest) {
		t.Errorf("unloaded %v, then %v", unloaded, err)
	}
}

func TestDisableOutlivesAnUnload(t *testing.T) {
	n := newNode(t)
	turn := func(disabled, want bool) {
		t.Helper()
		if changed, err := n.SetDisabled(t.Context(), disabled); changed != want || err != nil {
			t.Errorf("disabled %v: changed %v, %v", disabled, changed, err)
		}
	}
	unload := func() {
		t.Helper()
		if unloaded, err := n.UnloadOnRequest(t.Context(), false); !unloaded || err != nil {
			t.Fatalf("unloaded %v, %v", unloaded, err)
		}
	}
	loaded := func(disabled bool) {
		t.Helper()
		load(t, n)
		if changed, err := n.SetDisabled(t.Context(), disabled); changed || err != nil {
			t.Errorf("after the load the switch is not %v, %v", disabled, err)
		}
	}
	load(t, n)
	turn(true, true)
	unload()
	turn(true, false)
	loaded(true)
	unload()
	turn(false, true)
	loaded(false)
	unload()
	turn(true, true)
	loaded(true)
	if unloaded, err := n.Unload(t.Context(), false); !unloaded || err != nil {
		t.Fatalf("unloaded %v, %v", unloaded, err)
	}
	loaded(false)
}
