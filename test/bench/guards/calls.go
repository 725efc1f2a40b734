// SPDX-License-Identifier: Apache-2.0

package guards

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch = 64 // calls between two readings of the clock
	size  = 64 // bytes of each call
)

// call is one kind of system call. before prepares a batch of them, and after removes what they left.
type call struct {
	name          string
	before, after func() error
	do            func() error
}

// callNames are the names of the calls that children measure, in the order of the table.
var callNames = []string{
	"tcp write", "tcp read", "tcp send", "tcp recv",
	"redirected write", "redirected read", "redirected send", "redirected recv",
	"pipe write", "pipe read", "file write", "file read",
	"splice pipe-pipe", "splice socket-pipe", "setsockopt", "redirected setsockopt", "getsockopt",
	"redirected getsockopt",
}

// measure writes the nanoseconds of one call of each kind, by the median batch: other work of the machine
// disturbs only a few batches.
func measure(out io.Writer, batches int) error {
	// No other thread and no garbage collection, so that only the calls are measured.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	calls, settled, err := allCalls()
	if err != nil {
		return err
	}
	nanos := map[string]float64{}
	for _, c := range calls {
		var times []time.Duration
		for i := range batches + batches/10 {
			d, err := c.batch()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if i >= batches/10 { // before that, caches are cold
				times = append(times, d)
			}
		}
		slices.Sort(times)
		nanos[c.name] = float64(times[len(times)/2].Nanoseconds()) / batch
	}
	// If the flow has left the sockhash meanwhile, the row would have the wrong name.
	if err := settled(); err != nil {
		return fmt.Errorf("after all calls: %w", err)
	}
	return json.NewEncoder(out).Encode(nanos)
}

func (c call) batch() (time.Duration, error) {
	if err := c.before(); err != nil {
		return 0, err
	}
	start := time.Now()
	for range batch {
		if err := c.do(); err != nil {
			return 0, err
		}
	}
	d := time.Since(start)
	return d, c.after()
}

var buf [batch * size]byte

// raw makes a system call without Go's scheduler, and expects all bytes to be moved.
func raw(trap uintptr, fd int, a2, a3, a4, a5, a6, want uintptr) error {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), a2, a3, a4, a5, a6)
	if errno != 0 {
		return errno
	}
	if n != want {
		return fmt.Errorf("returned %d, want %d", n, want)
	}
	return nil
}

func move(trap uintptr, fd int, flags uintptr) func() error {
	p := uintptr(unsafe.Pointer(&buf)) // a global: it does not move
	return func() error { return raw(trap, fd, p, size, flags, 0, 0, size) }
}

// drain reads all bytes of a batch.
func drain(fd int) func() error {
	return func() error {
		for left := batch * size; left > 0; {
			n, err := unix.Read(fd, buf[:])
			if errors.Is(err, unix.EAGAIN) {
				if _, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); err == nil {
					continue
				}
			}
			if err != nil || n == 0 {
				return fmt.Errorf("drain: %d bytes missing: %w", left, err)
			}
			left -= n
		}
		return nil
	}
}

// fill sends a batch message by message. For a socket it waits until the last message has arrived.
func fill(from, to int) func() error {
	return func() error {
		for range batch {
			if _, err := unix.Write(from, buf[:size]); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, 1000)
		return err
	}
}

func nothing() error { return nil }

// answer sends a byte the other way, because a one-way stream leaves the sockhash, see
// docs/adr/0018-leaving-for-good.md.
func answer(from, to int) func() error {
	return func() error {
		if _, err := unix.Write(to, buf[:1]); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}}, 1000); err != nil {
			return fmt.Errorf("wait for answer: %w", err)
		}
		if _, err := unix.Read(from, buf[:1]); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		return nil
	}
}

func both(first, second func() error) func() error {
	return func() error {
		if err := first(); err != nil {
			return err
		}
		return second()
	}
}

// onPair are the calls on both ends of a connection. Each batch is answered.
func onPair(kind string, from, to int) []call {
	drain, fill := both(drain(to), answer(from, to)), both(answer(from, to), fill(from, to))
	return []call{
		{kind + " write", nothing, drain, move(unix.SYS_WRITE, from, 0)},
		{kind + " read", fill, nothing, move(unix.SYS_READ, to, 0)},
		{kind + " send", nothing, drain, move(unix.SYS_SENDTO, from, 0)},
		{kind + " recv", fill, nothing, move(unix.SYS_RECVFROM, to, 0)},
	}
}

func onPipe(to, from int) []call {
	return []call{
		{"pipe write", nothing, drain(from), move(unix.SYS_WRITE, to, 0)},
		{"pipe read", fill(to, from), nothing, move(unix.SYS_READ, from, 0)},
	}
}

func onFile() ([]call, error) {
	fd, err := unix.MemfdCreate("guard-bench", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	rewind := func() error { _, err := unix.Seek(fd, 0, io.SeekStart); return err }
	return []call{
		{"file write", rewind, nothing, move(unix.SYS_WRITE, fd, 0)},
		{"file read", rewind, nothing, move(unix.SYS_READ, fd, 0)},
	}, nil
}

// options sets and gets TCP_NODELAY.
func options(prefix string, fd int) []call {
	value, length := new(int32), new(uint32)
	*value, *length = 1, 4
	v, l := uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(length))
	return []call{
		{prefix + "setsockopt", nothing, nothing, func() error {
			defer runtime.KeepAlive(value)
			return raw(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, v, 4, 0, 0)
		}},
		{prefix + "getsockopt", nothing, nothing, func() error {
			defer runtime.KeepAlive(length)
			return raw(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, v, l, 0, 0)
		}},
	}
}
