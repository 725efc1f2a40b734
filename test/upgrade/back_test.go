// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"
)

// newerInUse is a node with a live flow of this version.
func newerInUse(t *testing.T) (w *world, live *pump) {
	t.Helper()
	w = newWorld(t, newer)
	w.load(newer)
	live = w.pump(w.pod("client"), w.pod("server"))
	live.wantRedirected("a live flow of this version")
	return w, live
}

func TestOlderVersionDoesNotChangeNewerState(t *testing.T) {
	w, live := newerInUse(t)
	for _, verb := range []string{"status", "load", "upgrade", "upgrade --force", "unload"} {
		said, code := w.ctl(older, strings.Fields(verb)...)
		if code != 4 || !strings.Contains(said, "of a newer version") {
			t.Errorf("the older sockmapctl %s: exit code %d: %s", verb, code, said)
		}
	}
	w.use(older)
	declined := w.pump(w.pod("older"), live.to)
	declined.wantTCP("a pod that the older plugin adds to this version's state")
	live.wantRedirected("the live flow, after the attempts of the older version")
}

// The documented downgrade: this version unloads, and the older one loads again.
func TestBackToABI1UnderTraffic(t *testing.T) {
	w, live := newerInUse(t)
	w.mustCtl(newer, "unload")
	live.wantTCP("a live flow after the unload")
	w.use(older)
	w.load(older)
	fresh := w.pump(w.pod("one"), w.pod("two"))
	fresh.wantRedirected("a flow of pods that the older version adds")
	live.wantTCP("the earlier flow, at the same time")
	fresh.stop()
	live.stop()
}

// The older version's forced unload does not know the switch of a newer ABI: it removes the pins, and live
// flows continue unchanged. They lose no bytes, this version's forced unload finds them without a pin, and
// the programs that the older version loads then work at the same time.
func TestAForcedUnloadByTheOlderVersionLosesNothing(t *testing.T) {
	w, live := newerInUse(t)
	w.mustCtl(older, "unload", "--force")
	live.more(8 * megabyte)
	w.mustCtl(newer, "unload", "--force")
	live.wantTCP("the live flow, after the forced unload of this version")
	w.use(older)
	w.load(older)
	fresh := w.pump(w.pod("one"), w.pod("two"))
	fresh.wantRedirected("a flow of pods that the older version adds")
	live.more(8 * megabyte)
	fresh.stop()
	live.stop()
}
