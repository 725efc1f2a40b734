// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc/stat, for every architecture.
const tick = 10 * time.Millisecond

// Busy measures the CPU time of the whole machine from now on, except for idle time. Its resolution is a tick
// for each CPU, but it includes everything, wherever the kernel accounts it: interrupts, kernel threads, and
// their work on another CPU. Clocks of processes and cgroups include network interrupts only on kernels that
// do not account them separately.
func Busy() (since func() (busy, elapsed time.Duration, err error), err error) {
	before, _, err := idle()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	return func() (time.Duration, time.Duration, error) {
		after, cpus, err := idle()
		elapsed := time.Since(begin)
		return time.Duration(cpus)*elapsed - (after - before), elapsed, err
	}, nil
}

// idle is the time that all CPUs together were idle, or used by the hypervisor.
func idle() (sum time.Duration, cpus int, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return idleIn(b)
}

func idleIn(stat []byte) (sum time.Duration, cpus int, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for _, i := range []int{4, 5, 8} { // idle, waiting for disks, stolen
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, bytes.Count(stat, []byte("\ncpu")), nil
}

// startBusy does nothing unless the order asks for it. An error counts as no CPU time, because the other side
// reports it.
func (e *end) startBusy(o Order) func() time.Duration {
	none := func() time.Duration { return 0 }
	if !o.Busy {
		return none
	}
	since, err := Busy()
	if err != nil {
		return none
	}
	return func() time.Duration {
		busy, _, err := since()
		if err != nil {
			return 0
		}
		return busy
	}
}
