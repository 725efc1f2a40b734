// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// PinThread keeps the calling thread, to which the goroutine must be locked, on
// one CPU until restore is called on it. Processes started from it meanwhile
// stay there for good, all their threads included.
//
// On a virtual machine a wake-up on another CPU costs more than everything
// that TCP does: latencies are comparable only between pinned processes.
func PinThread(cpu int) (restore func() error, err error) {
	var old, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, fmt.Errorf("get affinity: %w", err)
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("pin thread to CPU %d: %w", cpu, err)
	}
	return func() error { return unix.SchedSetaffinity(0, &old) }, nil
}

// PinProcess keeps all threads of a process on one CPU; pid 0 is the own process.
func PinProcess(pid, cpu int) error {
	if pid == 0 {
		pid = os.Getpid()
	}
	var set unix.CPUSet
	set.Set(cpu)
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	// Threads made by one that is not pinned yet appear in the next round.
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
