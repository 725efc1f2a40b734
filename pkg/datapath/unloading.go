// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// unloadingDir is a mark inside a state: it is being unloaded, and if its kill switch is on, that is why. It is made before
// the switch is turned and goes with the state, so no crash in between makes the switch look like what a person disabled.
// It is a directory, of which all versions take no notice, and not there where the switch was on before.
const unloadingDir = "unloading"

func markUnloading(l layout) error {
	if err := os.Mkdir(l.pin(unloadingDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mark state as being unloaded: %w", err)
	}
	return nil
}

func forgetUnloading(l layout) error {
	if err := removeIfThere(l.pin(unloadingDir)); err != nil {
		return fmt.Errorf("clear the mark of an unload: %w", err)
	}
	return nil
}

func isUnloading(l layout) bool { return exists(l.pin(unloadingDir)) }

// Unloading tells whether an unload has begun and not ended: it runs now, or was interrupted. The kill switch is on then
// because of that, and nobody has disabled.
func (d *Datapath) Unloading() bool { return isUnloading(d.layout) }

// SwitchOffToUnload is SetDisabled(true) for whoever unloads next: if that is interrupted, nobody takes the switch for one
// that a person has turned. The caller holds the lock on the state directory.
func (d *Datapath) SwitchOffToUnload() error {
	_, err := d.switchOffToUnload(func(string) error { return nil })
	return err
}

// switchOffToUnload tells whether a person had disabled. step is called before each change.
func (d *Datapath) switchOffToUnload(step func(name string) error) (disabled bool, err error) {
	defer spellError(&err)
	cfg, err := d.config()
	if err != nil {
		return false, err
	}
	if cfg.Disabled == 0 {
		if err := step("mark unloading"); err != nil {
			return false, err
		}
		if err := markUnloading(d.layout); err != nil {
			return false, err
		}
	}
	if err := step("switch off"); err != nil {
		return false, err
	}
	return cfg.Disabled != 0 && !d.Unloading(), d.turnSwitch(true)
}

// Resume takes back what an unload has done that was interrupted, for a person who loads: the switch stands as before, and
// whoever keeps the node may load again. It reports whether there was such an unload. The caller holds the lock on the
// state directory.
func (d *Datapath) Resume() (resumed bool, err error) {
	defer spellError(&err)
	if d.Unloading() {
		resumed = true
		if err := d.SetDisabled(false); err != nil {
			return resumed, err
		}
	}
	_, marked := UnloadedByHand(d.layout.dir)
	return resumed || marked, errors.Join(removeMark(d.layout.dir, markUnloaded), removeMark(d.layout.dir, markDisabled))
}
