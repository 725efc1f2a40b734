// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnreadableKernelMemoryIsExplained(t *testing.T) {
	const symbols = "ffffffff81000000 T _stext\nffffffff814c9f50 T bpf_trace_run1\n"
	for _, tt := range []struct {
		name, lockdown, symbols string
		want                    string // empty: nothing
	}{
		{"no lockdown", "", symbols, ""},
		{"lockdown is off", "[none] integrity confidentiality\n", symbols, ""},
		{"integrity", "none [integrity] confidentiality\n", symbols, ""},
		{"confidentiality", "none integrity [confidentiality]\n", symbols, "locked down for confidentiality"},
		{"no BPF_EVENTS", "", "ffffffff81000000 T _stext\n", "CONFIG_BPF_EVENTS"},
		{"nothing can be read", "", "", ""},
	} {
		root := t.TempDir()
		for name, text := range map[string]string{"sys/kernel/security/lockdown": tt.lockdown,
			"proc/kallsyms": tt.symbols} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		why, wayOut := Unreadable(root)
		if !strings.Contains(why, tt.want) || (why == "") != (tt.want == "") || (why == "") != (wayOut == "") {
			t.Errorf("%s: %q, %q; want %q", tt.name, why, wayOut, tt.want)
		}
		refused := errors.New("load program: invalid argument: program of this type cannot use helper bpf_probe_read_kernel#113")
		err := explainRefusal(refused, root)
		if (err != nil) != (tt.want != "") || err != nil &&
			(!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), wayOut)) {
			t.Errorf("%s: the load is explained by %v", tt.name, err)
		}
		if err := explainRefusal(errors.New("load program: invalid argument: R1 type=ctx"), root); err != nil {
			t.Errorf("%s: another error is explained by %v", tt.name, err)
		}
	}
	if why, _ := Unreadable(""); why != "" {
		t.Errorf("this kernel is said to be unreadable: %s", why)
	}
}
