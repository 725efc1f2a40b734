// SPDX-License-Identifier: Apache-2.0

package hazard

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Asked of a pair that is redirected, and where that one meets the hazard, of readers that block from the
// beginning, as programs do: a guard may have left those to TCP.
func probeInterruptedRead() (outcome, error) {
	o, err := on(interruptedRead)
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
	return guarded("readers that block are left to TCP; one that begins to later: %s", o.seen), nil
}

// blockingReader interrupts a reader that blocks from its first call. The first one at a listening port has
// read and answered before, so that a guard knows how it reads and a packet has come since; those after it
// are known from their beginning.
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

// interruptedRead sends signals whose handler asks for restart (Go's own of SIGURG) to a thread that sleeps
// in a read. On a plain socket the read goes on; on a redirected one it returns without data.
//
// Each signal is sent when the thread is seen asleep in that very call. So the kernel decides what is found,
// and not who runs when: a thread that sleeps again has been through the signal.
func interruptedRead(p pair) (outcome, error) {
	if err := unix.SetNonblock(p.reader, false); err != nil {
		return outcome{}, err
	}
	returned, helper := make(chan struct{}), make(chan error, 1)
	thread := unix.Gettid()
	go func() { helper <- p.disturb(thread, returned) }()
	n, readErr := unix.Read(p.reader, make([]byte, 1))
	close(returned)
	// Waited for, because it must neither signal nor write to what another probe has by then.
	if err := <-helper; err != nil {
		return outcome{}, err
	}
	if n != 1 {
		return bad("a blocking read that a signal wakes returns %v", readErr), nil
	}
	return fine("a blocking read goes on after a signal"), nil
}

// disturb signals the thread that reads from p, several times, and then gives it a byte, unless its read
// returns before.
func (p pair) disturb(thread int, returned <-chan struct{}) error {
	const signals = 3
	for i := range signals + 1 {
		asleep, err := p.awaitSleep(thread, returned)
		if err != nil {
			_ = p.write(1) // so that the read returns at all; the first error counts
			return err
		}
		if !asleep {
			return nil
		}
		if i == signals {
			break
		}
		if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil {
			return fmt.Errorf("signal own thread: %w", err)
		}
	}
	return p.write(1)
}

// awaitSleep waits until the thread sleeps in a read from p. It reports false when that read has returned.
func (p pair) awaitSleep(thread int, returned <-chan struct{}) (asleep bool, err error) {
	const longest = 2 * time.Second
	for start := time.Now(); ; time.Sleep(50 * time.Microsecond) {
		select {
		case <-returned:
			return false, nil
		default:
		}
		asleep, err := sleepsInRead(thread, p.reader)
		if err != nil {
			// A kernel that does not tell. Long enough for a thread that has nothing else to do.
			time.Sleep(wait / 5)
			return true, nil
		}
		if asleep {
			return true, nil
		}
		if time.Since(start) > longest {
			return false, fmt.Errorf("a thread that reads from an empty socket does not sleep within %v", longest)
		}
	}
}

// sleepsInRead reads which system call a thread of this process sleeps in: its number, its arguments; or
// "running".
func sleepsInRead(thread, fd int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", thread))
	if err != nil {
		return false, err
	}
	call := strings.Fields(string(text))
	return len(call) > 2 && call[0] == strconv.Itoa(unix.SYS_READ) && call[1] == "0x"+strconv.FormatInt(int64(fd), 16), nil
}
