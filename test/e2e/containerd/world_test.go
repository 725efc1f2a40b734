// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

// world is a node with a containerd whose network has sockmap chained after bridge, host-local and portmap.
type world struct {
	*crinode.World
	*daemon
}

// newWorld makes a world with keys set in the sockmap entry.
func newWorld(t *testing.T, keys map[string]any) *world {
	t.Helper()
	return newWorldWith(t, func(w *world) { w.WritePlugin("exec %s"); w.WriteConflist(keys) })
}

// newWorldWith makes a world with another plugin or conflist.
func newWorldWith(t *testing.T, configure func(*world)) *world {
	t.Helper()
	made, d := containerd.NewWorld(t)
	w := &world{made, prepareDaemon(t, d)}
	configure(w)
	w.begin(t)
	return w
}

// record is the attachment of a pod's ADD.
func (w *world) record(p *pod) endpoint.Attachment {
	w.Helper()
	r, ok := w.Records()[p.id]
	if !ok {
		w.Fatalf("no record of pod %s", p.spec.name)
	}
	return r
}
