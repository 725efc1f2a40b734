// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestTapRefusesAFileThatOthersPrepared(t *testing.T) {
	n := newLoadedNode(t)
	dir := t.TempDir()
	victim, link, theirs, wide := dir+"/victim", dir+"/link", dir+"/theirs", dir+"/wide"
	err := errors.Join(
		os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, link),
		os.WriteFile(theirs, []byte("precious"), 0o666), os.Chown(theirs, 65534, 65534),
		os.WriteFile(wide, []byte("precious"), 0o600), os.Chmod(wide, 0o666),
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, word := range map[string]string{link: "symbolic link", theirs: "uid 65534", wide: "chmod 0600"} {
		r := n.run(t, "tap", "-w", path, "--duration", "10ms")
		if r.code != exitError || !strings.Contains(r.stderr, path) || !strings.Contains(r.stderr, word) {
			t.Errorf("%s: %d, %q", path, r.code, r.stderr)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
			t.Errorf("%s has %q, %v", path, text, err)
		}
	}
	if n.tapped(t) {
		t.Error("the verdict copies")
	}
}
