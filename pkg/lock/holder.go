// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// holder names the process that holds the lock, for an error. It is a best effort: the holder may be in
// another PID namespace.
func (l *Lock) holder() string {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &st); err != nil {
		return unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	pid := flockOwner(string(locks), st.Dev, st.Ino)
	if pid == "" {
		return unknown
	}
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
}

// flockOwner finds the PID in lines such as
//
//	1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF
//
// Waiters have "->" as their second word, which makes them one word longer.
func flockOwner(locks string, dev, ino uint64) string {
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), ino)
	for line := range strings.Lines(locks) {
		w := strings.Fields(line)
		// The kernel prints PIDs that this namespace cannot see as 0 or -1.
		if len(w) == 8 && w[1] == "FLOCK" && w[5] == file && w[4] != "0" && w[4] != "-1" {
			return w[4]
		}
	}
	return ""
}
