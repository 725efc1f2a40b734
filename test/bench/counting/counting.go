// SPDX-License-Identifier: Apache-2.0

// Package counting is for guests whose clock counts instructions, a nanosecond each (test/vm run -icount).
// Time there is work, except the time in which the processor is idle, when the clock jumps to the next timer.
package counting

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Unit is the beginning of the units of cells. It is followed by the operation: "request", for example.
const Unit = "instructions/"

// schedstat has the time for which each processor ran a task, in nanoseconds. /proc/stat counts ticks of 10
// ms, which is as long as a whole sample.
const schedstat = "/proc/schedstat"

// Work is the work done between Begin and the call of its result.
type Work struct {
	Ran, Idle time.Duration // a nanosecond of Ran is an instruction
}

// Idle is the share of the time in which the processor was idle.
func (w Work) Share() float64 { return float64(w.Idle) / max(1, float64(w.Ran+w.Idle)) }

// Begin starts to measure the work of the one processor.
func Begin() (since func() (Work, error), err error) {
	before, err := ran()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	return func() (Work, error) {
		after, err := ran()
		return Work{after - before, max(0, time.Since(begin)-(after-before))}, err
	}, nil
}

// None is Begin for a machine without counting.
func None() (since func() (Work, error), err error) {
	return func() (Work, error) { return Work{}, nil }, nil
}

// ran is the time for which tasks have run. A task's time is added when it stops, so the caller sleeps for a
// moment.
func ran() (time.Duration, error) {
	time.Sleep(time.Microsecond)
	b, err := os.ReadFile(schedstat)
	if err != nil {
		return 0, fmt.Errorf("read the run time of tasks: %w", err)
	}
	return ranIn(b)
}

func ranIn(text []byte) (time.Duration, error) {
	var found []time.Duration
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 10 || !bytes.HasPrefix(fields[0], []byte("cpu")) {
			continue
		}
		nanos, err := strconv.ParseInt(string(fields[7]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", schedstat, err)
		}
		found = append(found, time.Duration(nanos))
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%s has %d processors, but counting needs one (test/vm run -icount)",
			schedstat, len(found))
	}
	return found[0], nil
}

// Each is the number of instructions of one of count operations.
func Each(took time.Duration, count float64) float64 {
	return float64(max(0, took).Nanoseconds()) / max(1, count)
}
