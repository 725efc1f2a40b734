// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// refillWait bounds how long an entry waits for memory. The kernel needs some milliseconds, and more where CPUs are busy.
const refillWait = 2 * time.Second

// waitForRefill calls put, and again as long as there is no memory, for refillWait at most. Per-CPU memory of an entry comes
// from a stock that the kernel fills in the background: a burst of some hundred entries empties it, and gets ENOMEM on a node
// with much free memory. Where memory is short for good, as under a cgroup's limit, it still is when the wait is over.
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
