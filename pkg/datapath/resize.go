// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// ErrStillDraining: what was loaded before the last change of the size or of the guards has live flows still.
var ErrStillDraining = errors.New("flows of the state before the last change live still")

// Resize puts state of this version with the MaxSockets and WithoutGuards of the settings in the place of
// what is loaded, which is of the same ABI. As with Replace, new connections belong to the new state, and
// live flows stay redirected with the maps, programs and guards that they began with, until ReapDrained finds
// none left. All else is carried over. It returns how many cgroups have a link now, and ErrStillDraining
// where an earlier change is not over. The caller holds the lock on dir.
//
// The two states change places in one step (RENAME_EXCHANGE, since Linux 5.17), so there is always one in
// force. A kill leaves a state that drains with links that it should not have, which the next Settle takes
// away.
func Resize(dir string, u Takeover) (links int, err error) {
	err = within(dir, func(dir string) error {
		links, err = resizeIn(dir, u)
		return err
	})
	return links, err
}

func resizeIn(dir string, u Takeover) (links int, err error) {
	if err := removeUnfinished(dir); err != nil {
		return 0, err
	}
	if _, err := ReapDrained(dir, u.step); err != nil {
		return 0, err
	}
	now := current(dir)
	if err := stillDrains(now); err != nil {
		return 0, err
	}
	d, err := Open(dir)
	if err != nil {
		return 0, err
	}
	config, err := d.config()
	// Attach resting guards: flows of the draining state may need them, and so may new ones.
	err = errors.Join(err, d.wakeGuards(), d.Close())
	if err != nil {
		return 0, err
	}
	spec, err := bpf.LoadSockmap()
	if err != nil {
		return 0, fmt.Errorf("read embedded programs: %w", err)
	}
	s := u.Settings
	s.setLive(decodeLive(&config))
	if err := u.step("build"); err != nil {
		return 0, err
	}
	err = build(now, spec, s, func(l, building layout) error {
		return takeOver(l, building, ABI, config, &u, func() error { return changePlaces(l, building) })
	})
	if err != nil {
		return 0, err
	}
	return settleNew(dir, u)
}

// CanResize returns nil, or why Resize is impossible now: ErrStillDraining or ErrUnsupported.
func (d *Datapath) CanResize() error {
	if !kernelIsAtLeast(5, 17) {
		return fmt.Errorf("%w: bpffs of this kernel cannot exchange two directories (Linux 5.17 can)",
			ErrUnsupported)
	}
	return stillDrains(d.layout)
}

// kernelIsAtLeast compares the release of the running kernel.
func kernelIsAtLeast(major, minor int) bool {
	var u unix.Utsname
	var isMajor, isMinor int
	if err := unix.Uname(&u); err != nil {
		return true // the call itself will tell
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &isMajor, &isMinor); n < 2 {
		return true
	}
	return isMajor > major || isMajor == major && isMinor >= minor
}

func stillDrains(l layout) error {
	n, err := socketsLeft(l.draining(), 1<<20)
	if err != nil || n == 0 {
		return nil // there is none, or it is about to be reaped
	}
	return fmt.Errorf("%w: %d sockets (see: sockmapctl status; try again once they have ended)",
		ErrStillDraining, n)
}

// changePlaces exchanges the new state with the one of l, which drains from then on.
func changePlaces(l, building layout) error {
	drains := l.draining().state()
	if err := unix.Rename(building.state(), drains); err != nil {
		return fmt.Errorf("publish state directory: %w", err)
	}
	err := unix.Renameat2(unix.AT_FDCWD, drains, unix.AT_FDCWD, l.state(), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: bpffs of this kernel cannot exchange two directories (Linux 5.17 can)",
			ErrUnsupported)
	}
	if err != nil {
		// For build, which removes it.
		return errors.Join(fmt.Errorf("exchange state directories: %w", err), unix.Rename(drains, building.state()))
	}
	return nil
}

// draining returns the state of the same ABI that drains, see Resize. ok is false if there is none.
func (d *Datapath) draining() (old *Datapath, ok bool) {
	l := d.layout.draining()
	if !exists(l.pin(bpf.SockmapMapConfig)) {
		return nil, false
	}
	return open(l), true
}

// alsoDraining calls f for the state of the same ABI that drains, because a change of an endpoint applies to
// all its live flows, in whichever state they are.
func (d *Datapath) alsoDraining(f func(old *Datapath) error) error {
	old, ok := d.draining()
	if !ok {
		return nil
	}
	return errors.Join(f(old), old.Close())
}
