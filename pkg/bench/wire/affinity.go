// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstCPU is the first CPU that this process may use. The runtime's own threads run there.
func firstCPU() (int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, fmt.Errorf("get affinity: %w", err)
	}
	for cpu := range 64 * len(allowed) {
		if allowed.IsSet(cpu) {
			return cpu, nil
		}
	}
	return 0, errors.New("get affinity: no CPU is allowed")
}

// PinProcess keeps all threads of a process on one CPU; pid 0 is the own process.
func PinProcess(pid, cpu int) error {
	if pid == 0 {
		pid = os.Getpid()
	}
	var set unix.CPUSet
	set.Set(cpu)
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	// A thread that is not pinned yet may create others; they are pinned in the next round.
	for pinned := map[int]bool{}; ; {
		entries, err := os.ReadDir(tasks)
		if err != nil {
			return fmt.Errorf("list threads of process %d: %w", pid, err)
		}
		before := len(pinned)
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || pinned[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin thread %d to CPU %d: %w", tid, cpu, err)
			}
			pinned[tid] = true
		}
		if len(pinned) == before {
			return nil
		}
	}
}
