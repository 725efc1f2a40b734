// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// stuck is how much longer than its traffic an order may take before it counts as broken.
const stuck = 10 * time.Second

var errStuck = fmt.Errorf("nothing happened on a socket for %v", stuck)

// waiter bounds all waits of an order together. A timeout of each poll would cost time in each request.
// Instead there is one alarm for the order, whose signal interrupts any wait. It repeats, because it may come
// directly before the wait begins.
type waiter struct {
	fd  unix.PollFd // what poll needs, so that a wait allocates nothing
	end time.Time
}

// arm starts the alarm of an order that takes d. The runtime has a handler for the signal, which does
// nothing.
func (w *waiter) arm(d time.Duration) error {
	w.end = time.Now().Add(d + stuck)
	return alarm(d+stuck, time.Second)
}

func (w *waiter) disarm() error { return alarm(0, 0) }

func alarm(first, again time.Duration) error {
	_, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{
		Value: unix.NsecToTimeval(int64(first)), Interval: unix.NsecToTimeval(int64(again)),
	})
	if err != nil {
		return fmt.Errorf("set alarm: %w", err)
	}
	return nil
}

// interrupted decides whether a wait that failed continues.
func (w *waiter) interrupted(e unix.Errno) error {
	switch {
	case e != unix.EINTR:
		return e
	case time.Now().After(w.end):
		return errStuck
	}
	return nil
}
