// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func (w *world) redirectedBytes() (sum uint64) {
	w.Helper()
	all, err := w.datapath().Totals()
	if err != nil {
		w.Fatal(err)
	}
	for _, one := range all {
		sum += one.RedirectedBytes
	}
	return sum
}

func TestFromABI1UnderTraffic(t *testing.T) {
	w := newWorld(t, older)
	w.load(older)
	client, server := w.pod("client"), w.pod("server")
	closed := w.pump(client, server)
	closed.wantRedirected("a flow of the older version")
	closed.stop()
	live := w.pump(client, server)
	live.wantRedirected("a live flow of the older version")
	own := fmt.Sprintf("ABI %d", datapath.ABI)
	if planned := w.mustCtl(newer, "upgrade", "--dry-run"); !strings.Contains(planned, own) ||
		!strings.Contains(planned, "ABI 1") {
		t.Errorf("the dry run prints %q", planned)
	}
	w.mustCtl(newer, "upgrade")

	if d := w.draining(); len(d) != 1 || d[1] < 2 {
		t.Errorf("draining: %v, want two sockets of ABI 1", d)
	}
	live.wantRedirected("a live flow, after the upgrade")
	counted := w.redirectedBytes()
	if counted < 8*megabyte {
		t.Errorf("%d redirected bytes are counted: those of the flow that closed before the upgrade are forgotten",
			counted)
	}
	between := w.pump(client, server)
	between.wantRedirected("a new flow of pods of the older version")
	w.use(newer)
	late := w.pod("late")
	fresh := w.pump(late, server)
	fresh.wantRedirected("a flow of a new pod")
	for _, p := range []*pump{between, fresh} {
		p.stop()
	}
	eventually(t, "their bytes are counted", func() bool { return w.redirectedBytes() >= counted+16*megabyte })
	records, err := w.datapath().Attachments()
	if err != nil || len(records) != 3 {
		t.Errorf("%d attachments are recorded, %v; want 3", len(records), err)
	}
	live.wantRedirected("the flow that is left of the older version")
	live.stop()
	eventually(t, "the older version's state has drained", func() bool {
		w.mustCtl(newer, "gc")
		return len(w.draining()) == 0
	})
	if left, err := datapath.FindLeftovers(w.node.BPFFS()); err != nil || left.Unfinished ||
		len(left.Older)+len(left.Draining) > 0 {
		t.Errorf("left over: %+v, %v", left, err)
	}
}
