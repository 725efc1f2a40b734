// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// T is one run of a case. Its methods belong to the goroutine of the case, unless documented otherwise.
type T struct {
	Place place.Place
	C, S  *Sock // the pair, unless the case is Alone
	// Context ends with the run, or when the watchdog fires.
	Context context.Context

	scale        float64
	waits        waiting
	loop         *int // an epoll set to which every descriptor is added
	dir          string
	observations []Observation

	mu      sync.Mutex // guards the fields below, which the watchdog uses
	sockets []*Sock
	cleanup []func()
	stopped bool
	kept    []any
}

// See records an observation. Values are formatted as by fmt.Print.
func (t *T) See(name string, value any) {
	t.observations = append(t.observations, Observation{Name: name, Value: fmt.Sprint(value)})
}

// Stream records all bytes that one end has received.
func (t *T) Stream(name string, got []byte) {
	t.observations = append(t.observations, Observation{Name: name, Value: Text(got), Stream: true})
}

// Receive reads n bytes from s and records them, and, if they are fewer, what ended them.
func (t *T) Receive(name string, s *Sock, n int) { t.Received(name, s.ReadText(n)) }

// Received records a program's description of all bytes that it has received.
func (t *T) Received(name, value string) {
	t.observations = append(t.observations, Observation{Name: name, Value: value, Stream: true})
}

// Text is the bytes themselves if they are few and printable, else their number and hash.
func Text(b []byte) string {
	printable := len(b) <= 48
	for _, c := range b {
		printable = printable && c >= ' ' && c <= '~'
	}
	if printable {
		return fmt.Sprintf("%q", b)
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes %x", len(b), sum[:6])
}

// broken is the value of the panic when the case itself cannot continue.
type broken struct{ err error }

// Fail ends the run, for errors that are not part of the comparison. Tasks may call it.
func (t *T) Fail(format string, args ...any) { panic(broken{fmt.Errorf(format, args...)}) }

// Check is Fail if err is one.
func (t *T) Check(err error, doing string) {
	if err != nil {
		t.Fail("%s: %w", doing, err)
	}
}

// Scaled multiplies d for slow machines. Every time in a case must use it.
func (t *T) Scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * t.scale) }

// settling is the time for bytes to arrive: on one machine they have arrived when send(2) returns, unless a
// softirq was delayed.
const settling = 15 * time.Millisecond

// Pause waits until sent bytes have arrived and tasks are asleep. It makes no call on the sockets, because
// any call could change them.
func (t *T) Pause() { time.Sleep(t.Scaled(settling)) }

// Rest delays the end that the case plays: a reader that starts late, a pause between two sends. The time is
// scaled as by Scaled.
func (t *T) Rest(d time.Duration) { time.Sleep(t.Scaled(d)) }

// Eventually waits until ok returns true, for at most a second, and reports whether it did.
func (t *T) Eventually(ok func() bool) bool {
	for end := time.Now().Add(t.Scaled(time.Second)); ; time.Sleep(t.Scaled(2 * time.Millisecond)) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Cleanup calls f when the run ends or the watchdog fires; last in, first out. Tasks may call it.
func (t *T) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanup = append(t.cleanup, f)
}

// Dir makes a directory that is removed after the run.
func (t *T) Dir() string {
	if t.dir == "" {
		dir, err := os.MkdirTemp("", "conformance-case-")
		t.Check(err, "make directory")
		t.dir = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	return t.dir
}

// stop shuts all sockets down and kills all programs, for calls that would never return. Any goroutine may
// call it.
func (t *T) stop() {
	t.mu.Lock()
	t.stopped = true
	sockets, cleanup := t.sockets, t.cleanup
	t.cleanup = nil
	t.mu.Unlock()
	for _, s := range sockets {
		s.abort()
	}
	for i := len(cleanup) - 1; i >= 0; i-- {
		cleanup[i]()
	}
}

// close releases everything after the run.
func (t *T) close() {
	t.stop()
	for _, s := range t.sockets {
		s.Close()
	}
}

// own makes the run the owner of a descriptor, and bounds its calls.
func (t *T) own(fd int) *Sock {
	s := &Sock{FD: fd, t: t, waits: t.waits}
	if t.loop != nil {
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)}
		t.Check(unix.EpollCtl(*t.loop, unix.EPOLL_CTL_ADD, fd, &event), "add to epoll set")
	}
	t.mu.Lock()
	t.sockets = append(t.sockets, s)
	stopped := t.stopped
	t.mu.Unlock()
	if stopped {
		s.abort()
	}
	s.Patience(patience)
	return s
}

// Own takes ownership of a descriptor of any kind, whose calls wait in the kernel unless it has O_NONBLOCK.
func (t *T) Own(fd int) *Sock {
	s := &Sock{FD: fd, t: t, file: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sockets = append(t.sockets, s)
	return s
}

// Pipe makes a pipe.
func (t *T) Pipe(flags int) (r, w *Sock) {
	var p [2]int
	t.Check(unix.Pipe2(p[:], flags|unix.O_CLOEXEC), "make pipe")
	return t.Own(p[0]), t.Own(p[1])
}
