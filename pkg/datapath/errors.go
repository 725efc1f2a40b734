// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"path/filepath"
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
	ErrExclusiveProgram = errors.New("a sock_ops program that admits no other is attached to this cgroup or " +
		"one above it")
	// ErrNeighbour: a program of others keeps a cgroup from being accelerated. See NeighbourError.
	ErrNeighbour = errors.New("another program is in the way")
	// ErrNotListed: this kernel accepts no iterator that lists live sockets.
	ErrNotListed = errors.New("live sockets cannot be listed on this kernel")
	// ErrGuardLost: after an upgrade a guard that runs now would not run. See Takeover.LoseGuards.
	ErrGuardLost = errors.New("a guard that runs does not load any more")
	// ErrForeignState: the pins belong to another version, or are not sockmap's. See StateError.
	ErrForeignState = errors.New("foreign pinned state")
)

// StateError says that pinned state cannot be used by this program, and how to get out. It is an
// ErrForeignState.
type StateError struct {
	Path  string // of the offending directory or pin
	Found string // what is there, in words
	Own   string // what this program needs, in words
	Older bool   // Upgrade can take it over
	Cure  string // what the operator can do, if no version of this program can help

	Damaged bool  // a pin that every state has is missing
	NotOurs bool  // nothing in the directory is sockmap's
	Cause   error // the kernel's error; may be nil
}

// missing returns a StateError for a pin that every state has and that is gone.
func missing(pin string, cause error) *StateError {
	return &StateError{Path: pin, Found: "missing", Damaged: true, Cause: cause}
}

// notOurs returns a StateError for a directory with contents that are not sockmap's.
func notOurs(dir, entry string) *StateError {
	return &StateError{
		Path: filepath.Join(dir, entry), Found: fmt.Sprintf("%q", entry), Own: fmt.Sprintf("%q", stateName(ABI)),
		NotOurs: true,
	}
}

func (e *StateError) Error() string {
	return fmt.Sprintf("pinned state %s (%s)", e.What(), e.WayOut())
}

// What names both sides.
func (e *StateError) What() string {
	if e.Damaged {
		return fmt.Sprintf("%s is %s: the loaded state is damaged", e.Path, e.Found)
	}
	return fmt.Sprintf("%s is %s, this program needs %s", e.Path, e.Found, e.Own)
}

// WayOut is what the operator can do.
func (e *StateError) WayOut() string {
	switch {
	case e.Cure != "":
		return e.Cure
	case e.Damaged:
		return "send live flows to TCP and remove the rest with: sockmapctl unload --force; the next container " +
			"loads again"
	case e.NotOurs:
		return "nothing there is sockmap's: choose another directory with bpffsPath or --bpffs-path"
	case e.Older:
		return "take it over with: sockmapctl upgrade, or remove it with: sockmapctl unload --force"
	}
	return "use the sockmapctl that made it, or remove it with: sockmapctl unload --force"
}

// Unwrap returns the cause.
func (e *StateError) Unwrap() error { return e.Cause }

// Is makes every StateError an ErrForeignState.
func (e *StateError) Is(target error) bool {
	return target == ErrForeignState
}
