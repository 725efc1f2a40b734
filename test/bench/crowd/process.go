// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Main runs a process of a crowd and does not return, if this is one.
func Main() {
	role := os.Getenv(roleVariable)
	if role == "" {
		return
	}
	debug.SetGCPercent(-1) // the memory that it needs is known in advance
	if err := live(role, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// live follows orders until its input ends.
func live(role string, in io.Reader, out io.Writer) error {
	if _, err := FilesOfAProcess(); err != nil {
		return err
	}
	var do func(order) (answer, error)
	switch role {
	case roleServe:
		do = (&server{}).do
	case roleDial:
		do = (&client{}).do
	default:
		return fmt.Errorf("%s=%s: there is no such role", roleVariable, role)
	}
	orders, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		a, err := do(o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// now is the time of a clock that all processes share.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // never fails
	return t.Nano()
}

// await polls one socket.
func await(fd int, events int16, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("nothing came for %v", limit)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(left/time.Millisecond)+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
