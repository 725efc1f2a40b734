// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"testing"
)

var errInterrupted = errors.New("interrupted")

// interruptedAt interrupts an unload before its step n, counted from 0. done reports that it has fewer steps.
func interruptedAt(t *testing.T, dir string, r Removal, n int) (done bool) {
	t.Helper()
	at := 0
	r.Step = func(string) error {
		if at++; at > n {
			return errInterrupted
		}
		return nil
	}
	_, err := r.Do(dir)
	if err != nil && !errors.Is(err, errInterrupted) {
		t.Fatal(err)
	}
	return err == nil
}

// disabledAfterLoad loads again, and returns the position of the kill switch.
func disabledAfterLoad(t *testing.T, dir string) bool {
	t.Helper()
	d, err := Load(dir, defaults)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return disabled(t, d)
}

func disabled(t *testing.T, d *Datapath) bool {
	t.Helper()
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Disabled
}

// mostSteps is more than an unload of one state has.
const mostSteps = 20

// A node that an interrupted unload has switched off does not count as disabled by a person, whatever the
// step was.
func TestInterruptedUnloadIsNotRecordedAsDisable(t *testing.T) {
	states := []struct {
		name    string
		force   bool
		prepare func(t *testing.T, d *Datapath)
	}{
		{"of this version", false, func(*testing.T, *Datapath) {}},
		{"of a newer version", true, func(t *testing.T, d *Datapath) { becomeABI(t, d, ABI+1) }},
	}
	for _, tt := range states {
		for _, want := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, disabled %v", tt.name, want), func(t *testing.T) {
				steps := 0
				for done := false; !done; steps++ {
					if steps > mostSteps {
						t.Fatalf("more than %d steps", mostSteps)
					}
					dir := newStateDir(t)
					d, err := Load(dir, defaults)
					if err != nil {
						t.Fatal(err)
					}
					if want {
						if err := d.SetDisabled(true); err != nil {
							t.Fatal(err)
						}
					}
					tt.prepare(t, d)
					d.Close()
					how := Removal{Force: tt.force, OnRequest: true}
					done = interruptedAt(t, dir, how, steps)
					// Twice, because the second finds the state that the first has left.
					interruptedAt(t, dir, how, steps)
					if _, err := how.Do(dir); err != nil {
						t.Fatal(err)
					}
					if is := disabledAfterLoad(t, dir); is != want {
						t.Errorf("interrupted before step %d: disabled %v, want %v", steps, is, want)
					}
					if err := Unload(dir, false); err != nil {
						t.Fatal(err)
					}
				}
				if steps < 5 {
					t.Errorf("only %d steps were seen", steps-1)
				}
			})
		}
	}
}

// The rest of a killed removal does not count as disabled by a person either.
func TestKilledRemovalKeepsTheDisabledState(t *testing.T) {
	for _, want := range []bool{false, true} {
		d := load(t, defaults)
		dir := d.Dir()
		if err := d.SetDisabled(want); err != nil {
			t.Fatal(err)
		}
		how := Removal{OnRequest: true, Step: func(name string) error {
			if name == "remove "+d.layout.name {
				return errInterrupted
			}
			return nil
		}}
		if _, err := how.Do(dir); !errors.Is(err, errInterrupted) {
			t.Fatal(err)
		}
		renamePin(t, d.layout.state(), d.layout.building(1).state())
		if _, err := UnloadOnRequest(dir, false); err != nil {
			t.Fatal(err)
		}
		if is := disabledAfterLoad(t, dir); is != want {
			t.Errorf("disabled %v, want %v", is, want)
		}
	}
}

func TestDisableEnableAndLoadCountAfterAnInterruptedUnload(t *testing.T) {
	for _, tt := range []struct {
		name   string
		decide func(d *Datapath) error
		want   bool
	}{
		{"disable", func(d *Datapath) error { return d.SetDisabled(true) }, true},
		{"enable", func(d *Datapath) error { return d.SetDisabled(false) }, false},
		{"load", func(d *Datapath) error { _, err := d.Resume(); return err }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for step := range mostSteps {
				d := load(t, defaults)
				if interruptedAt(t, d.Dir(), Removal{OnRequest: true}, step) {
					return
				}
				if !exists(d.layout.state()) {
					t.Fatal("the last step that can be interrupted removed state")
				}
				if err := tt.decide(d); err != nil {
					t.Fatal(err)
				}
				if is := disabled(t, d); is != tt.want || d.Unloading() {
					t.Errorf("interrupted before step %d: disabled %v, unloading %v, want %v", step, is, d.Unloading(),
						tt.want)
				}
				if _, err := UnloadOnRequest(d.Dir(), false); err != nil {
					t.Fatal(err)
				}
				if is := disabledAfterLoad(t, d.Dir()); is != tt.want {
					t.Errorf("interrupted before step %d, then unloaded: disabled %v, want %v", step, is, tt.want)
				}
			}
			t.Errorf("an unload has more than %d steps", mostSteps)
		})
	}
}

// A node that a person has disabled before an unload is still disabled after a load that reverts the unload.
func TestResumeKeepsAnEarlierDisable(t *testing.T) {
	for step := range mostSteps {
		d := load(t, defaults)
		if err := d.SetDisabled(true); err != nil {
			t.Fatal(err)
		}
		if interruptedAt(t, d.Dir(), Removal{OnRequest: true}, step) {
			return
		}
		if _, err := d.Resume(); err != nil {
			t.Fatal(err)
		}
		if _, unloaded := UnloadedOnRequest(d.Dir()); !disabled(t, d) || unloaded || StaysDisabled(d.Dir()) {
			t.Errorf("interrupted before step %d: disabled %v, marked %v, %v", step, disabled(t, d), unloaded,
				StaysDisabled(d.Dir()))
		}
	}
	t.Errorf("an unload has more than %d steps", mostSteps)
}

// The programs or the state that take the place of half unloaded ones are half unloaded, too.
func TestAnUpgradeKeepsTheMarkOfAnUnload(t *testing.T) {
	d := load(t, defaults)
	if err := d.SwitchOffToUnload(); err != nil {
		t.Fatal(err)
	}
	mustUpgrade(t, d, "new")
	if !d.Unloading() || !disabled(t, d) {
		t.Error("an upgrade of the programs took the mark away")
	}
	makeOld(t, d)
	if d = mustReplace(t, d.Dir()); !d.Unloading() || !disabled(t, d) {
		t.Error("an upgrade of the maps took the mark away")
	}
}
