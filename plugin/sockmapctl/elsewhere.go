// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
)

// checkElsewhere finds state that is loaded, but not at dir: a runtime in another mount namespace has another
// bpffs, and flows continue when their pins are gone.
func (h host) checkElsewhere(dir string) (found []checkView) {
	if h.pinned != nil {
		all, err := h.pinned()
		if err == nil {
			for _, other := range all {
				if other != dir {
					found = append(found, checkView{"elsewhere", true, placeText(other), ""})
				}
			}
		}
	}
	if h.strays == nil {
		return found
	}
	strays, err := h.strays()
	if err != nil {
		return found // without CAP_SYS_ADMIN nobody can tell, and "privileges" says so
	}
	for _, s := range strays {
		view := checkView{"strays", true, strayText(s), ""}
		if s.UsedBy != "" {
			view.Name = "elsewhere"
		}
		if s.Sure {
			view.OK, view.WayOut = false, "sockmapctl unload --force, which sends them to TCP"
		}
		found = append(found, view)
	}
	return found
}

// placeText describes how to reach a state directory.
func placeText(dir string) string {
	rest, ok := strings.CutPrefix(dir, "/proc/")
	if !ok {
		return fmt.Sprintf("sockmap is loaded at %s (see it with: --bpffs-path %s)", dir, dir)
	}
	pid, path, _ := strings.Cut(rest, "/root")
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		name = []byte("gone")
	}
	return fmt.Sprintf("sockmap is loaded at %s in the mounts of process %s (%s): nsenter -m -t %s "+
		"sockmapctl --bpffs-path %s status",
		path, pid, strings.TrimSpace(string(name)), pid, path)
}
