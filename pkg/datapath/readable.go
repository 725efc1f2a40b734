// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Unreadable returns why this kernel lets no BPF program read its memory, as ours must, and the way out. Both
// are empty if it does, or if that is not known. root contains /proc and /sys; empty: "/".
func Unreadable(root string) (why, wayOut string) {
	if root == "" {
		root = "/"
	}
	if lockdown(root) == "confidentiality" {
		return "the kernel is locked down for confidentiality (/sys/kernel/security/lockdown)",
			"boot with lockdown=integrity, or without lockdown"
	}
	if without, known := withoutTracing(root); known && without {
		return "the kernel was built without CONFIG_BPF_EVENTS", "use a kernel with CONFIG_BPF_EVENTS"
	}
	return "", ""
}

// lockdown returns none, integrity or confidentiality; empty if the kernel has no lockdown, or securityfs is
// not mounted.
func lockdown(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/lockdown"))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(text), "[") // none [integrity] confidentiality
	mode, _, _ := strings.Cut(after, "]")
	return mode
}

// withoutTracing looks for a kernel function that only CONFIG_BPF_EVENTS provides. Everybody may read the
// names.
func withoutTracing(root string) (without, known bool) {
	symbols, err := os.ReadFile(filepath.Join(root, "proc/kallsyms"))
	if err != nil || len(symbols) == 0 {
		return false, false
	}
	return !bytes.Contains(symbols, []byte(" bpf_trace_run1\n")), true
}

// refusesToRead recognizes the verifier's refusal of the helper that reads kernel memory.
func refusesToRead(err error) bool {
	text := err.Error()
	return strings.Contains(text, "bpf_probe_read") &&
		(strings.Contains(text, "cannot use helper") || strings.Contains(text, "unknown func"))
}

// explainRefusal names the cause if a load failed for lack of that helper. It returns nil for other errors,
// or if the cause is not known.
func explainRefusal(err error, root string) error {
	if !refusesToRead(err) {
		return nil
	}
	why, wayOut := Unreadable(root)
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: %s, so no program may read its memory (%s): %w", ErrUnsupported, why, wayOut, err)
}
