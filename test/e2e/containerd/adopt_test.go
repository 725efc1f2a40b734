// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"
)

// sockmapctl runs the program in the node's network namespace.
func (w *world) sockmapctl(args ...string) []byte {
	w.Helper()
	cmd := w.node.Command(w.Context(), filepath.Join(tools.plugins, "sockmapctl"),
		append(args, "--bpffs-path", w.node.BPFFS())...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		w.Fatalf("sockmapctl %q: %v: %s", args, err, complaint.Bytes())
	}
	return out.Bytes()
}

// adopted is the output of sockmapctl adopt for this node's pods, with only containerd's CRI socket.
func (w *world) adopted(dryRun bool) map[string]string {
	w.Helper()
	args := []string{"adopt", "--all", "-o", "json", "--cri", w.socket(), "--cni-conf-dir",
		filepath.Join(w.dir, "net.d"),
		"--cni-cache-dir", w.TempDir()}
	if dryRun {
		args = append(args, "--dry-run")
	}
	var pods struct {
		Items []struct{ Pod, State, Reason, From string }
	}
	if err := json.Unmarshal(w.sockmapctl(args...), &pods); err != nil {
		w.Fatal(err)
	}
	said := map[string]string{}
	for _, p := range pods.Items {
		if p.From == "CRI" {
			said[p.Pod] = p.State + " " + p.Reason
		}
	}
	return said
}

// Pods that ran before the plugin is added to the list are adopted by the data on containerd's CRI socket.
// containerd's DEL removes their attachments.
func TestPodsThatRunAreAdopted(t *testing.T) {
	w := newWorldWith(t, func(w *world) { w.writePlugin("exec %s"); w.writeConflist(nil) })
	client, server := w.pair()
	out := w.newPod(t, podSpec{
		name: "out", class: burstable, annotations: map[string]string{"sockmap-cni/accelerate": "false"},
	})
	out.serve(t)
	load := client.pod.startLoad(t, "rr", at(server.pod.ip4))
	w.writeConflist(map[string]any{})

	for _, want := range []struct {
		dryRun     bool
		pods, outs string
	}{
		{true, "left-out older", "left-out older"},
		{false, "accelerated ", "opted-out opted-out"},
		{true, "accelerated ", "opted-out opted-out"},
	} {
		said := w.adopted(want.dryRun)
		if said["client"] != want.pods || said["server"] != want.pods || said["out"] != want.outs ||
			len(said) != 3 {
			t.Errorf("dry run %v: %q, want %q and %q", want.dryRun, said, want.pods, want.outs)
		}
	}
	w.wantRedirected(client, at(server.pod.ip4))
	w.wantRedirected(client, at(server.pod.ip6))
	w.wantPlain(client, at(out.ip4))
	wantReport(t, load)
	w.wantEndpoint(client.pod)

	for _, p := range []*pod{client.pod, server.pod, out} {
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	}
	if left := w.records(); len(left) > 0 {
		t.Errorf("after containerd's DEL there is %+v", left)
	}
	w.found("adopted while they run",
		"pods that run when sockmap is chained are adopted by `sockmapctl adopt`, new connections redirect %s, "+
			"and their DEL removes them", w.share())
}
