// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program that was built in the source tree is easily committed, and then stays in every clone: a later
// removal leaves it in the history. BPF objects are committed on purpose.
func TestNoProgramIsCommitted(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root(t)
	listed, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Split(strings.TrimRight(string(listed), "\x00"), "\x00")
	if len(files) < 500 {
		t.Fatalf("only %d files are committed", len(files))
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_bpfel.o") {
			continue
		}
		f, err := os.Open(filepath.Join(root(t), name))
		if err != nil {
			continue // removed in the work tree, or a link to nothing
		}
		var head [4]byte
		n, _ := f.Read(head[:])
		f.Close()
		if bytes.Equal(head[:n], []byte("\x7fELF")) {
			t.Errorf("%s is a program or an object (git rm --cached %s, and amend the commit)", name, name)
		}
	}
}
