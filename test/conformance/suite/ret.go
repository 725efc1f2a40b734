// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A Ret is the result of a system call.
type Ret struct {
	N     int
	Errno unix.Errno
	Data  []byte // received; nil for calls that receive nothing
	Took  time.Duration
	limit time.Duration // for how long it could wait
}

// Blocked: the call waited for as long as it could.
func (r Ret) Blocked() bool {
	return r.Errno == unix.EAGAIN && r.limit > 0 && r.Took >= r.limit*8/10
}

// String does not depend on the time that the call took.
func (r Ret) String() string {
	switch {
	case r.Blocked():
		return blocks
	case r.Errno != 0:
		return Errno(r.Errno)
	case r.Data != nil:
		return fmt.Sprintf("%d %s", r.N, Text(r.Data))
	default:
		return fmt.Sprint(r.N)
	}
}

// Errno is the name of an error, or "ok".
func Errno(err error) string {
	var errno unix.Errno
	switch e := err.(type) {
	case nil:
		return "ok"
	case unix.Errno:
		errno = e
	default:
		return err.Error()
	}
	if errno == 0 {
		return "ok"
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}

// Call makes a system call. While it waits, the goroutine occupies a thread.
func Call(trap uintptr, args ...uintptr) Ret {
	var a [6]uintptr
	copy(a[:], args)
	start := time.Now()
	n, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
	r := Ret{N: int(n), Errno: errno, Took: time.Since(start)}
	if errno != 0 {
		r.N = -1
	}
	return r
}
