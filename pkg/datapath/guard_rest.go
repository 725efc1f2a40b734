// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Every process of the node runs the tracing guards. While no cgroup has a link and the sockhash is empty
// they are not needed, and rest: their programs stay pinned without links. Attach makes the links again
// before it makes its own.
//
// While they rest, the config map says that no hazard is guarded, so a version that does not know resting
// guards accelerates no container.

const (
	// programSuffix ends the name of a guard's program pin, beside the pin of its link.
	programSuffix = "-program"
	// restingPin is a symbolic link in guardsDir while the guards rest. Its target is what Config.Guarded
	// says meanwhile.
	restingPin = "resting"
	// busyTries bounds the waits of 1 ms for links to be gone, of all guards together, because others wait
	// for the lock.
	busyTries = 2000
)

// restingGuards returns which hazards are guarded when the resting guards are attached; ok is false if none
// rest.
func restingGuards(dir string) (guarded uint32, ok bool, err error) {
	target, err := os.Readlink(filepath.Join(dir, guardsDir, restingPin))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read whether guards rest: %w", err)
	}
	mask, err := strconv.ParseUint(target, 0, 32)
	if err != nil {
		return 0, false, fmt.Errorf("read whether guards rest: %w", err)
	}
	return uint32(mask), true, nil
}

// RestGuards lets the tracing guards rest if no cgroup has a link and the sockhash is empty. It reports
// whether they rest. The caller holds the lock on the state directory.
//
// Guards whose programs an earlier version has not pinned keep running, as all do after an error.
//
// Guards that rest although they are needed are attached: a kill, or a version without resting guards, may
// have left them so.
func (d *Datapath) RestGuards() (rest bool, err error) {
	defer spellError(&err)
	needed, err := d.guardsNeeded()
	if err != nil {
		return false, err
	}
	if needed {
		return false, d.wakeGuards()
	}
	pins, err := d.guardPins()
	if err != nil || len(pins) == 0 {
		return false, err
	}
	if err := d.noteRest(); err != nil {
		return false, err
	}
	ran := false
	for _, pin := range pins {
		err := os.Remove(pin)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("let guards rest: %w", err)
		}
		ran = ran || err == nil
	}
	if !ran {
		return true, nil // since an earlier call: programs that ran then have ended
	}
	// A connection may have been in its handshake when its cgroup lost its link. Programs that ran then have
	// ended after this call.
	waitForPrograms()
	if needed, err = d.guardsNeeded(); err != nil || needed {
		return false, errors.Join(err, d.wakeGuards())
	}
	return true, nil
}

// waitForPrograms returns when every program that ran when it was called has ended: a global membarrier(2)
// waits for a grace period of RCU. Kernels with nohz_full refuse it; a program takes microseconds.
func waitForPrograms() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(20 * time.Millisecond)
	}
}

// noteRest pins which hazards are guarded, unless that was done before, and sets config.guards to 0.
func (d *Datapath) noteRest() error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	note := filepath.Join(d.layout.pin(guardsDir), restingPin)
	// If the map has a value although they rest, it is newer, of a version without resting guards.
	if cfg.Guards != 0 {
		err = removeIfThere(note)
	}
	if err == nil {
		err = os.Symlink(fmt.Sprintf("%#x", cfg.Guards), note)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note that guards rest: %w", err)
	}
	return d.update(func(c *bpf.SockmapConfig) { c.Guards = 0 })
}

// ErrGuardAsleep: guards rest, and the kernel does not let them run again.
var ErrGuardAsleep = errors.New("a resting guard cannot be attached again (to continue without it: " +
	"sockmapctl unload, then load)")

// wakeGuards attaches the guards that rest. After an error, or a kill, they count as resting, and are woken
// again.
func (d *Datapath) wakeGuards() (err error) {
	defer spellError(&err)
	guarded, rest, err := restingGuards(d.layout.state())
	if err != nil || !rest {
		return err
	}
	pins, err := d.guardPins()
	if err != nil {
		return err
	}
	tries := busyTries
	for _, pin := range pins {
		if err := attachPinned(pin, &tries); err != nil {
			// Not wrapped: the kernel's error about a hook would be taken for one about maps or cgroups.
			return fmt.Errorf("%w: %v", ErrGuardAsleep, err)
		}
	}
	if err := d.update(func(c *bpf.SockmapConfig) { c.Guards = guarded }); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.layout.pin(guardsDir), restingPin)); err != nil {
		return fmt.Errorf("note that guards run: %w", err)
	}
	return nil
}

// guardPins lists the link pins of tracing guards whose programs are pinned, whether the link exists or not.
func (d *Datapath) guardPins() (pins []string, err error) {
	names, err := pinNames(d.layout.pin(guardsDir))
	for name := range names {
		if link, ok := strings.CutSuffix(name, programSuffix); ok {
			pins = append(pins, filepath.Join(d.layout.pin(guardsDir), link))
		}
	}
	return pins, err
}

// attachPinned makes the link of the program that is pinned beside it, unless it exists. It decrements tries
// for each wait.
func attachPinned(pin string, tries *int) error {
	if there, err := isThere(pin); there || err != nil {
		return err
	}
	prog, err := ebpf.LoadPinnedProgram(pin+programSuffix, nil)
	if err != nil {
		return fmt.Errorf("open program of a guard: %w", err)
	}
	defer prog.Close()
	// The kernel removes a link a moment after its pin. Until then the program is busy.
	l, err := attachTo(prog)
	for ; errors.Is(err, unix.EBUSY) && *tries > 0; *tries-- {
		time.Sleep(time.Millisecond)
		l, err = attachTo(prog)
	}
	if err != nil {
		return fmt.Errorf("attach guard %s: %w", filepath.Base(pin), err)
	}
	defer l.Close()
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin guard: %w", err)
	}
	return nil
}

// guardsNeeded reports whether a socket is in the sockhash, or may enter it through a cgroup's link.
func (d *Datapath) guardsNeeded() (bool, error) {
	if linked, err := d.anyLink(); linked || err != nil {
		return linked, err
	}
	sockets, err := d.mapOf(bpf.SockmapMapSockets, 8)
	if err != nil {
		return false, err
	}
	key, err := nextKey(sockets, nil)
	return key != nil, err
}

// anyLink reports whether LinkKeys would list any. It reads until the first.
func (d *Datapath) anyLink() (bool, error) {
	dir, err := os.Open(d.layout.links())
	if err != nil {
		return false, fmt.Errorf("read link pins: %w", err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(16)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read link pins: %w", err)
		}
		for _, name := range names {
			if _, rearm := parseRearm(name); !rearm {
				return true, nil
			}
		}
	}
}
