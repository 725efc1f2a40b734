// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// PinThread keeps the calling thread, to which the goroutine must be locked, on one CPU until restore is
// called on it. Processes started from it meanwhile stay on that CPU, with all their threads.
//
// On a virtual machine a wake-up on another CPU costs more than all of TCP's work, so latencies are
// comparable only between pinned processes.
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
