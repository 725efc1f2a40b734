// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Marks note what a person has decided, in the state directory while nothing is loaded. They are symbolic
// links, because bpffs holds no files, and a reboot removes them like pins. Their names begin like those of
// unfinished state, so versions without marks ignore and remove them.
const (
	// markUnloaded: a person has unloaded, so nothing loads automatically. Its target is the CLOCK_BOOTTIME
	// in ns.
	markUnloaded = buildingPrefix + "unloaded"
	// markDisabled: the kill switch was on then, so the next load begins with it on.
	markDisabled = buildingPrefix + "disabled"
)

func isMark(name string) bool { return name == markUnloaded || name == markDisabled }

// UnloadedOnRequest reports whether a person has unloaded the state below dir, and when. It takes no lock.
func UnloadedOnRequest(dir string) (at time.Time, ok bool) {
	text, err := os.Readlink(filepath.Join(dir, markUnloaded))
	if err != nil {
		return at, false
	}
	ns, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return at, true // a mark with another text counts, too
	}
	return sinceBoot(ns), true
}

// StaysDisabled reports whether the next load below dir begins with the kill switch on. It takes no lock.
func StaysDisabled(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, markDisabled))
	return err == nil
}

// MarkDisabled decides whether the next load begins with the kill switch on. changed is false if nobody has
// unloaded with sockmapctl unload: then it has no effect. The caller holds the lock on dir.
func MarkDisabled(dir string, disabled bool) (changed bool, err error) {
	if _, ok := UnloadedOnRequest(dir); !ok || StaysDisabled(dir) == disabled {
		return false, nil
	}
	if disabled {
		return true, setMark(dir, markDisabled)
	}
	return true, removeMark(dir, markDisabled)
}

// ForgetUnload lets the plugin and the agent load again. The caller holds the lock on dir.
func ForgetUnload(dir string) (changed bool, err error) {
	if _, ok := UnloadedOnRequest(dir); !ok {
		return false, nil
	}
	return true, removeMark(dir, markUnloaded)
}

func setMark(dir, name string) error {
	err := os.Symlink(strconv.FormatUint(bootTime(), 10), filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mark state directory: %w", err)
	}
	return nil
}

func removeMark(dir, name string) error {
	if err := removeIfThere(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("remove mark in state directory: %w", err)
	}
	return nil
}

// publishMarked is publish for a first load. It applies the marks and removes them.
func publishMarked(l, building layout) error {
	if StaysDisabled(l.dir) {
		d := open(building)
		defer d.Close()
		if err := d.update(func(c *bpf.SockmapConfig) { c.Disabled, c.DisabledNs = 1, coarse() }); err != nil {
			return err
		}
	}
	if err := publish(l, building); err != nil {
		return err
	}
	return errors.Join(removeMark(l.dir, markUnloaded), removeMark(l.dir, markDisabled))
}
