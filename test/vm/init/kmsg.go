// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"golang.org/x/sys/unix"
)

// streamKernelLog sends the kernel's log from boot on. The console shows errors only: it is slow, and the
// backtrace of a warning is printed below that level. So the host finds warnings in this log, but a panic
// only on the console. The returned function sends the rest and ends the stream.
func (g guest) streamKernelLog() (stop func()) {
	// Not os.Open: its files go to sleep in poll, and this reader must notice the end.
	log, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		g.problem(fmt.Errorf("open kernel log: %w", err))
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(log)
		buf := make([]byte, 16<<10)
		for {
			if g.sendRecords(log, buf) != nil {
				return
			}
			select {
			case <-quit:
				g.sendRecords(log, buf)
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// sendRecords sends all records that the log has now. Each read returns one record.
func (g guest) sendRecords(log int, buf []byte) error {
	for {
		n, err := unix.Read(log, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			// EPIPE: records were overwritten before they were read; the next read continues after them.
		case err != nil:
			g.problem(fmt.Errorf("read kernel log: %w", err))
			return err
		default:
			g.out.Send(frame.Frame{Kind: frame.Kernel, Text: record(string(buf[:n]))})
		}
	}
}

// record converts "priority,sequence,microseconds,flags;text\n KEY=value\n" to the form of dmesg, "[ seconds]
// text".
func record(raw string) string {
	head, text, ok := strings.Cut(raw, ";")
	if !ok {
		return strings.TrimSpace(raw)
	}
	text, _, _ = strings.Cut(text, "\n")
	fields := strings.Split(head, ",")
	if len(fields) < 3 {
		return text
	}
	var us int64
	if _, err := fmt.Sscan(fields[2], &us); err != nil {
		return text
	}
	return fmt.Sprintf("[%5d.%06d] %s", us/1e6, us%1e6, text)
}
