// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

// world is a node with a CRI-O, whose network has bridge and host-local, and sockmap after chain is called.
type world struct {
	*crinode.World
	*daemon
}

// newWorld makes a world without sockmap in the list of its network.
func newWorld(t *testing.T) *world {
	t.Helper()
	made, d := crio.NewWorld(t, "crio.conf.d", "registries.conf.d")
	w := &world{made, prepareDaemon(t, d)}
	w.WritePlugin("exec %s")
	w.WriteConflist(nil)
	w.begin(t)
	return w
}

// chain adds sockmap to the list.
func (w *world) chain() {
	w.Helper()
	w.WriteConflist(map[string]any{})
}
