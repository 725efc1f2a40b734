// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// refillWait bounds how long a new entry waits for memory. The kernel needs some milliseconds, or more on
// busy CPUs.
const refillWait = 2 * time.Second

// waitForRefill calls put, and repeats that while it returns ENOMEM, for refillWait at most. Per-CPU memory
// of entries comes from a pool that the kernel refills in the background. A burst of some hundred entries
// empties it and gets ENOMEM on a node with much free memory. If memory is really short, as under a cgroup's
// limit, the last ENOMEM is returned.
func waitForRefill(put func() error) error {
	const least, most = time.Millisecond, 32 * time.Millisecond
	for waited, pause := time.Duration(0), least; ; pause = min(2*pause, most) {
		err := put()
		if !errors.Is(err, unix.ENOMEM) {
			return err
		}
		if waited >= refillWait {
			return fmt.Errorf("%w (after %v)", err, waited)
		}
		time.Sleep(pause)
		waited += pause
	}
}
