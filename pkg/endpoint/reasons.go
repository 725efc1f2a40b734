// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"golang.org/x/sys/unix"
)

// LoadError says that the programs could not be loaded, so no container can be accelerated.
type LoadError struct{ Err error }

func (e *LoadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LoadError) Unwrap() error { return e.Err }

// causes maps errors of Add to reasons. The first match counts. An error may be wrapped in a more general
// one, so specific causes come first. Shortages come before everything else: without them the failed step
// might have succeeded.
var causes = []struct {
	reason decline.Reason
	is     func(error) bool
}{
	{decline.Resources, is(unix.EMFILE, unix.ENFILE, unix.ENOMEM)},
	{decline.Busy, is(ErrBusy)},
	{decline.NetNS, is(ErrNetNS)},
	{decline.CgroupPath, as[*ConfigError]},
	{decline.Hazards, as[*HazardError]},
	{decline.ForeignState, is(datapath.ErrForeignState)},
	{decline.BPFFS, is(datapath.ErrNoBPFFS)},
	{decline.Kernel, is(datapath.ErrUnsupported)},
	{decline.Load, is(datapath.ErrGuardAsleep)},
	{decline.TooManyPrograms, is(datapath.ErrTooManyPrograms)},
	{decline.ExclusiveProgram, is(datapath.ErrExclusiveProgram)},
	{decline.Neighbour, is(datapath.ErrNeighbour)},
	{decline.Resources, is(unix.ENOSPC)},
	{decline.Cgroup, is(cgroup.ErrNoCgroup2, cgroup.ErrNotCgroup2, errHostCgroup)},
	{decline.Permission, is(fs.ErrPermission)},
	{decline.Load, is(ErrLoadFailed)},
	{decline.Load, as[*LoadError]},
	{decline.MapFull, is(unix.E2BIG)},
	{decline.Disabled, is(ErrDisabled)},
	{decline.NotLoaded, is(datapath.ErrNotLoaded)},
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}

func as[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}

// ReasonOf returns the reason for which an error of Add or Load, or of a Part, prevents acceleration. It is
// decline.None for nil, and decline.Other for an error without a reason of its own.
func ReasonOf(err error) decline.Reason {
	if err == nil {
		return decline.None
	}
	// A recorded failure has its reason, but not its original error.
	var before *LoadFailedError
	if errors.As(err, &before) && before.Why != decline.None {
		return before.Why
	}
	for _, c := range causes {
		if c.is(err) {
			return c.reason
		}
	}
	return decline.Other
}
