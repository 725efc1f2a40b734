// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
)

// Errors returned by this package, for errors.Is.
var (
	// ErrNotLoaded: the state directory has no programs.
	ErrNotLoaded = errors.New("sockmap is not loaded")
	// ErrNoBPFFS: the state directory is not on a bpffs and none could be mounted.
	ErrNoBPFFS = errors.New("no bpffs")
	// ErrUnsupported: this kernel lacks something that the programs need.
	ErrUnsupported = errors.New("kernel not supported")
	// ErrTooManyPrograms: the cgroup has 64 sock_ops programs already.
	ErrTooManyPrograms = errors.New("cgroup holds as many sock_ops programs as the kernel allows")
	// ErrExclusiveProgram: the cgroup or one above it has a sock_ops program that admits no other.
	ErrExclusiveProgram = errors.New("a sock_ops program that admits no other is attached to this cgroup or one above it")
	// ErrNotListed: this kernel admits no iterator that finds the live sockets.
	ErrNotListed = errors.New("live sockets cannot be listed on this kernel")
	// ErrForeignState: the pins were made by another version, or by somebody else. See StateError.
	ErrForeignState = errors.New("foreign pinned state")
)

// StateError says that pinned state cannot be used by this program, and how to get out. It is an ErrForeignState.
type StateError struct {
	Path  string // of the offending directory or pin
	Found string // what stands there, in words
	Own   string // what this program needs, in words
}

func (e *StateError) Error() string {
	return fmt.Sprintf("pinned state %s is %s, this program needs %s (use the sockmapctl that made it, "+
		"or remove it with: sockmapctl unload --force)", e.Path, e.Found, e.Own)
}

// Is makes every StateError an ErrForeignState.
func (e *StateError) Is(target error) bool {
	return target == ErrForeignState
}
