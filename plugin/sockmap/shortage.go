// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
	"golang.org/x/sys/unix"
)

// shortages are resources that a call can lack, and what to do about it.
var shortages = []struct {
	errno unix.Errno
	text  func() string
}{
	{unix.EMFILE, func() string {
		return fmt.Sprintf("too few file descriptors: this process may have %s "+
			"(raise LimitNOFILE of the container runtime's service)", descriptorLimit())
	}},
	{unix.ENFILE, func() string {
		return "the node has no file descriptors left (raise the sysctl fs.file-max)"
	}},
	{unix.ENOMEM, func() string {
		return "the kernel gave no memory (look at the memory limit of the container runtime's service)"
	}},
}

// explainError adds to an error what its text does not say: which resource was short, or that SELinux may be
// the cause. It is idempotent.
func explainError(err error) error { return selinux.Explain(explainShortage(err)) }

// explainShortage prefixes an error with the resource that was short. It returns any other error as it is.
func explainShortage(err error) error {
	var named *shortageError
	if errors.As(err, &named) {
		return err
	}
	for _, s := range shortages {
		if errors.Is(err, s.errno) {
			return &shortageError{s.text(), err}
		}
	}
	return err
}

type shortageError struct {
	what string
	err  error
}

func (e *shortageError) Error() string { return e.what + ": " + e.err.Error() }

// Unwrap returns the error in which the shortage appeared.
func (e *shortageError) Unwrap() error { return e.err }

func descriptorLimit() string {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "an unknown number"
	}
	return fmt.Sprint(limit.Cur) // the Go runtime has raised it to the hard limit
}
