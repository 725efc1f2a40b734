// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel replaces files of the kernel by files with these contents; "" means no file.
func kernel(t *testing.T, label, enforce string) {
	t.Helper()
	dir := t.TempDir()
	oldLabel, oldEnforce := labelFile, enforceFile
	t.Cleanup(func() { labelFile, enforceFile = oldLabel, oldEnforce })
	labelFile, enforceFile = filepath.Join(dir, "current"), filepath.Join(dir, "enforce")
	for path, text := range map[string]string{labelFile: label, enforceFile: enforce} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPermissionErrorOfRootNamesSELinux(t *testing.T) {
	const container = "system_u:system_r:container_t:s0:c1,c2\x00"
	denied := fmt.Errorf("install: %w", &fs.PathError{Op: "open", Path: "/x", Err: unix.EACCES})
	verifier := fmt.Errorf("load program: %w: R1 invalid mem access", unix.EACCES)
	for name, c := range map[string]struct {
		label, enforce string
		err            error
		named          bool
	}{
		"in a container":      {container, "", denied, true},
		"on the host":         {"unconfined_u:unconfined_r:unconfined_t:s0\n", "1", denied, true},
		"no level":            {"u:r:t", "1", denied, true},
		"permissive":          {container, "0\n", denied, false},
		"AppArmor":            {"cri-containerd.apparmor.d (enforce)\n", "", denied, false},
		"AppArmor, namespace": {":ns://a:b (enforce)\n", "", denied, false},
		"unconfined":          {"unconfined\n", "", denied, false},
		"neither":             {"", "", denied, false},
		"another error":       {container, "", unix.EPERM, false},
		"of the verifier":     {container, "", verifier, false},
		"no error":            {container, "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			kernel(t, c.label, c.enforce)
			got := Explain(c.err)
			if !errors.Is(got, c.err) {
				t.Errorf("%v is not %v any more", got, c.err)
			}
			named := got != nil && strings.Contains(got.Error(), "spc_t")
			if named != c.named {
				t.Errorf("got %v", got)
			}
			if again := Explain(got); again != got {
				t.Errorf("explained twice: %v", again)
			}
		})
	}
}
