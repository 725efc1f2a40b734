// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// unloadingDir marks a state that is being unloaded: its kill switch is on for that reason. It is made before
// the switch is turned on and removed with the state, so after a crash the switch does not look like one that
// a person has turned on. It is not made if the switch was on before. It is a directory, which all versions
// ignore.
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

// Unloading reports whether an unload has begun and not ended: it runs now, or was interrupted. Then the kill
// switch is on for that reason, and no person has disabled.
func (d *Datapath) Unloading() bool { return isUnloading(d.layout) }

// SwitchOffToUnload is SetDisabled(true) before an unload: if that is interrupted, the switch does not look
// like one that a person has turned on. The caller holds the lock on the state directory.
func (d *Datapath) SwitchOffToUnload() error {
	_, err := d.switchOffToUnload(func(string) error { return nil })
	return err
}

// switchOffToUnload reports whether a person had disabled. step is called before each change.
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

// Resume undoes an interrupted unload, for a person who loads: the switch is as before, and the plugin and
// the agent may load again. It reports whether there was such an unload. The caller holds the lock on the
// state directory.
func (d *Datapath) Resume() (resumed bool, err error) {
	defer spellError(&err)
	if d.Unloading() {
		resumed = true
		if err := d.SetDisabled(false); err != nil {
			return resumed, err
		}
	}
	_, marked := UnloadedOnRequest(d.layout.dir)
	return resumed || marked, errors.Join(removeMark(d.layout.dir, markUnloaded),
		removeMark(d.layout.dir, markDisabled))
}
