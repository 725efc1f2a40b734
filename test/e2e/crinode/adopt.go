// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
)

// Sockmapctl runs the program in the node's network namespace.
func (w *World) Sockmapctl(args ...string) []byte {
	w.Helper()
	out, complaint, err := w.sockmapctl(args...)
	if err != nil {
		w.Fatalf("sockmapctl %q: %v: %s", args, err, complaint)
	}
	return out
}

// Status is the output of sockmapctl status, whose exit code reports the state, too.
func (w *World) Status() []byte {
	w.Helper()
	out, _, _ := w.sockmapctl("status", "-o", "json")
	return out
}

func (w *World) sockmapctl(args ...string) (out, complaint []byte, err error) {
	w.Helper()
	args = append(args, "--bpffs-path", w.on.Node.BPFFS())
	cmd := w.on.Node.Command(w.Context(), filepath.Join(w.runtime.Plugins, "sockmapctl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := w.on.Node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	err = cmd.Wait()
	return stdout.Bytes(), stderr.Bytes(), err
}

// Adopt is what sockmapctl adopt says of this node's pods, by their names. It knows them from the runtime's
// CRI socket only: libcni's cache directory is empty.
func (w *World) Adopt(args ...string) map[string]string {
	w.Helper()
	args = append([]string{
		"adopt", "--all", "-o", "json", "--cri", w.on.Socket(), "--cni-conf-dir", w.confDir(),
		"--cni-cache-dir", w.TempDir(),
	}, args...)
	var pods struct {
		Items []struct{ Pod, State, Reason, From string }
	}
	if err := json.Unmarshal(w.Sockmapctl(args...), &pods); err != nil {
		w.Fatal(err)
	}
	said := map[string]string{}
	for _, p := range pods.Items {
		if p.From != "CRI" {
			w.Errorf("pod %s is known from %s", p.Pod, p.From)
		}
		said[p.Pod] = strings.TrimSpace(p.State + " " + p.Reason)
	}
	return said
}
