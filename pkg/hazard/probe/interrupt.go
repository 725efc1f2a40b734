// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	signalsEach  = 3
	longestSleep = 10 * time.Second // bound of each wait; on an idle machine each takes microseconds
)

// errReturned: the read has returned, so there is no sleeping thread to signal.
var errReturned = errors.New("the read has returned")

// probeInterruptedRead first interrupts the reader of a redirected pair. If that read shows the hazard, it
// also interrupts readers that block from their first call, as most programs do: a guard may keep those on
// TCP.
func probeInterruptedRead() (outcome, error) {
	o, err := interruptedRedirected()
	if err != nil || !o.present {
		return o, err
	}
	l, err := newListener(0)
	if err != nil {
		return outcome{}, err
	}
	defer l.close()
	for _, known := range []bool{false, true} {
		seen, err := blockingReader(l, known)
		if err != nil || seen.present {
			return seen, err
		}
	}
	return guarded("readers that block stay on TCP; one that begins to block later: %s", o.seen), nil
}

// interruptedRedirected interrupts a read of redirected bytes. A read that continues after the signal proves
// that the hazard is absent only if its byte was redirected. A connection may fall back to TCP at any time,
// so up to five pairs are tried.
func interruptedRedirected() (o outcome, err error) {
	const pairs = 5
	for range pairs {
		var byTCP bool
		o, err = on(func(p pair) (outcome, error) {
			before, err := p.sentByTCP()
			if err != nil {
				return outcome{}, err
			}
			o, err := interruptedRead(p)
			if err != nil || o.present {
				return o, err
			}
			after, err := p.sentByTCP()
			byTCP = after != before
			return o, err
		})
		if err != nil || !byTCP {
			return o, err
		}
	}
	return outcome{}, fmt.Errorf("interrupt a read: each of %d connections fell back to TCP meanwhile", pairs)
}

// blockingReader interrupts a reader that blocks from its first call. known is false for the first connection
// of the listener: its reader reads and answers before, so that a guard can see that it blocks, and a packet
// arrives after that. Guards know that later connections of the same listener block.
func blockingReader(l listener, known bool) (outcome, error) {
	p, err := l.pair(nil)
	if err != nil {
		return outcome{}, err
	}
	defer p.close()
	if err := unix.SetNonblock(p.reader, false); err != nil {
		return outcome{}, err
	}
	if !known {
		// The request that follows the answer acknowledges it.
		for range 2 {
			if err := p.exchange(1); err != nil {
				return outcome{}, err
			}
			if err := (pair{writer: p.reader, reader: p.writer}).exchange(1); err != nil {
				return outcome{}, err
			}
		}
		if err := p.exchange(1); err != nil {
			return outcome{}, err
		}
	}
	return interruptedRead(p)
}

// interruptedRead sends signals to a thread that sleeps in a read. Their handler, Go's own for SIGURG, has
// SA_RESTART. On a plain socket the kernel restarts the read; with the hazard the read returns without data.
//
// Each signal is sent when the thread sleeps in this read. The byte is written when the thread has handled
// the signals. So the result depends on the kernel only, and not on the scheduling of the two threads.
func interruptedRead(p pair) (outcome, error) {
	if err := unix.SetNonblock(p.reader, false); err != nil {
		return outcome{}, err
	}
	returned, helper := make(chan struct{}), make(chan error, 1)
	thread := unix.Gettid()
	go func() { helper <- p.disturb(thread, returned) }()
	n, readErr := unix.Read(p.reader, make([]byte, 1))
	close(returned)
	// The goroutine must end first: it must not send signals during the next probe, or write to its
	// descriptors.
	if err := <-helper; err != nil {
		return outcome{}, err
	}
	if errors.Is(readErr, unix.EAGAIN) || errors.Is(readErr, unix.EINTR) {
		return bad("a blocking read that a signal wakes returns %v", readErr), nil
	}
	if n != 1 {
		return outcome{}, fmt.Errorf("interrupt a read: it returns %d, %w", n, readErr)
	}
	return fine("a blocking read goes on after a signal"), nil
}

// disturb sends several signals to the thread that reads from p, and then writes a byte. It ends earlier if
// the read returns.
func (p pair) disturb(thread int, returned <-chan struct{}) error {
	for range signalsEach {
		err := p.awaitSleep(thread, returned)
		if err == nil {
			err = signal(thread)
		}
		if err == nil {
			err = awaitDelivery(thread)
		}
		if errors.Is(err, errReturned) {
			return nil
		}
		if err != nil {
			return errors.Join(err, p.write(1)) // so that the read returns at all
		}
	}
	return p.write(1)
}

func signal(thread int) error {
	if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil {
		return fmt.Errorf("signal own thread: %w", err)
	}
	return nil
}

// awaitSleep waits until the thread sleeps in a read from p. The error is errReturned when that read has
// returned.
func (p pair) awaitSleep(thread int, returned <-chan struct{}) error {
	return poll("a thread that reads from an empty socket does not sleep", func() (bool, error) {
		select {
		case <-returned:
			return false, errReturned
		default:
		}
		return sleepsInRead(thread, p.reader)
	})
}

// awaitDelivery waits until the signal is no longer pending. The thread handles it when it leaves the system
// call. Before that the kernel may still report the thread as asleep, because a thread that was woken does
// not run until its processor schedules it.
func awaitDelivery(thread int) error {
	return poll("a thread does not take a signal", func() (bool, error) {
		pending, err := isPending(thread, unix.SIGURG)
		return !pending, err
	})
}

// poll calls ask until it returns true. otherwise describes the failure if that takes too long.
func poll(otherwise string, ask func() (bool, error)) error {
	for start := time.Now(); ; time.Sleep(50 * time.Microsecond) {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		if time.Since(start) > longestSleep {
			return fmt.Errorf("%s within %v", otherwise, longestSleep)
		}
	}
}

// sleepsInRead reports whether a thread of this process sleeps in read(2) of fd. The file of /proc has the
// number and the arguments of the system call, or "running".
func sleepsInRead(thread, fd int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", thread))
	if err != nil {
		return false, fmt.Errorf("ask what a thread does: %w", err)
	}
	call := strings.Fields(string(text))
	return len(call) > 2 && call[0] == strconv.Itoa(unix.SYS_READ) &&
		call[1] == "0x"+strconv.FormatInt(int64(fd), 16), nil
}

// isPending reports whether a signal to a thread of this process is still pending.
func isPending(thread int, signal unix.Signal) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", thread))
	if err != nil {
		return false, fmt.Errorf("ask for signals of a thread: %w", err)
	}
	_, rest, found := strings.Cut(string(text), "\nSigPnd:")
	line, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return false, fmt.Errorf("ask for signals of a thread: SigPnd is %q", line)
	}
	return set&(1<<(signal-1)) != 0, nil
}
