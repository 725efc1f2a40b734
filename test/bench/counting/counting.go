// SPDX-License-Identifier: Apache-2.0

// Package counting is for guests whose clock counts instructions, a nanosecond each (test/vm run -icount): time that passes
// there is work that is done, but for the time in which there is nothing to do. Then the clock jumps to the next timer.
package counting

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Unit of cells is this, followed by what a number is for: "request", say.
const Unit = "instructions/"

// schedstat has the nanoseconds in which each processor ran a task, to the nanosecond. /proc/stat counts ticks of 10 ms,
// which is as much as a whole sample takes.
const schedstat = "/proc/schedstat"

// Work is what was done in a while.
type Work struct {
	Ran, Idle time.Duration // a nanosecond of the first is an instruction
}

// Share of the time in which there was nothing to do.
func (w Work) Share() float64 { return float64(w.Idle) / max(1, float64(w.Ran+w.Idle)) }

// Begin measures from now on what the one processor does.
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

// None is Begin for a machine that is not counted.
func None() (since func() (Work, error), err error) {
	return func() (Work, error) { return Work{}, nil }, nil
}

// ran is for how long tasks have run. A task's time is added when it stops: the caller sleeps a moment for that.
func ran() (time.Duration, error) {
	time.Sleep(time.Microsecond)
	b, err := os.ReadFile(schedstat)
	if err != nil {
		return 0, fmt.Errorf("ask for the time that tasks ran: %w", err)
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
		return 0, fmt.Errorf("%s tells of %d processors: instructions are counted on one (test/vm run -icount)", schedstat, len(found))
	}
	return found[0], nil
}

// Each is how many instructions one of count operations took, which all took that long.
func Each(took time.Duration, count float64) float64 {
	return float64(max(0, took).Nanoseconds()) / max(1, count)
}
