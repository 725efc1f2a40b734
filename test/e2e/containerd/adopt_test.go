// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

// Pods that ran before the plugin is added to the list are adopted by the data on containerd's CRI socket.
// containerd's DEL removes their attachments.
func TestPodsThatRunAreAdopted(t *testing.T) {
	w := newWorldWith(t, func(w *world) { w.WritePlugin("exec %s"); w.WriteConflist(nil) })
	client, server := w.pair()
	out := w.newPod(t, podSpec{
		name: "out", class: burstable, annotations: map[string]string{"sockmap-cni/accelerate": "false"},
	})
	out.serve(t)
	load := client.pod.startLoad(t, "rr", crinode.At(server.pod.ip4))
	w.WriteConflist(map[string]any{})

	for _, want := range []struct {
		flags      []string
		pods, outs string
	}{
		{[]string{"--dry-run"}, "left-out older", "left-out older"},
		{nil, "accelerated", "opted-out opted-out"},
		{[]string{"--dry-run"}, "accelerated", "opted-out opted-out"},
	} {
		said := w.Adopt(want.flags...)
		if said["client"] != want.pods || said["server"] != want.pods || said["out"] != want.outs ||
			len(said) != 3 {
			t.Errorf("adopt %v: %q, want %q and %q", want.flags, said, want.pods, want.outs)
		}
	}
	w.WantRedirected(client, crinode.At(server.pod.ip4))
	w.WantRedirected(client, crinode.At(server.pod.ip6))
	w.WantPlain(client, crinode.At(out.ip4))
	wantReport(t, load)
	w.wantEndpoint(client.pod)

	for _, p := range []*pod{client.pod, server.pod, out} {
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	}
	if left := w.Records(); len(left) > 0 {
		t.Errorf("after containerd's DEL there is %+v", left)
	}
	w.Found("adopted while they run",
		"pods that run when sockmap is chained are adopted by `sockmapctl adopt`, new connections redirect %s, "+
			"and their DEL removes them", w.Share())
}
