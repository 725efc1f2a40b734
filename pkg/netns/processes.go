// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"strconv"
)

// Processes lists the processes in /proc by network namespace, which are those of the caller's PID namespace.
// It leaves out processes that end meanwhile. It does not look for threads that have left the namespace of
// their process.
func Processes() (map[Inode][]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := map[Inode][]int{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if dev, inode, err := Stat(ProcessPath(pid)); err == nil {
			key := Inode{dev, inode}
			all[key] = append(all[key], pid)
		}
	}
	return all, nil
}

// Inode identifies a network namespace among those that exist now, see ID.
type Inode struct{ Dev, Inode uint64 }

// ProcessPath returns the path of the network namespace of a process.
func ProcessPath(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }
