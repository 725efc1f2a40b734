// SPDX-License-Identifier: Apache-2.0

package add

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
)

// width is how many goroutines make and delete pods at a time.
const width = 8

// each calls f(0) to f(n-1), several at a time. It stops at errors.
func each(n int, f func(int) error) error {
	var (
		workers sync.WaitGroup
		next    atomic.Int64
		failed  atomic.Bool
		errs    = make([]error, n)
	)
	for range min(width, n) {
		workers.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[i] = f(i); errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// together calls f(0) to f(n-1) at once.
func together(n int, f func(int) error) error {
	var (
		all   sync.WaitGroup
		begin = make(chan struct{})
		errs  = make([]error, n)
	)
	for i := range n {
		all.Go(func() {
			<-begin
			errs[i] = f(i)
		})
	}
	close(begin)
	all.Wait()
	return errors.Join(errs...)
}

// onCPU runs f with all threads of this process on one CPU, so that the processes that it starts run there,
// too. A wake-up on another CPU costs more, and the cost varies.
func onCPU(cpu int, f func() error) (err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("get affinity: %w", err)
	}
	if err := wire.PinProcess(0, cpu); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unpin(&before)) }()
	return f()
}

func unpin(to *unix.CPUSet) error {
	// Twice: a thread that was not pinned yet may have started others meanwhile.
	for range 2 {
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, to); err != nil && !errors.Is(err, unix.ESRCH) &&
				!errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("let thread %d run on all CPUs again: %w", tid, err)
			}
		}
	}
	return nil
}
