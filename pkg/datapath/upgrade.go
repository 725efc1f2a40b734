// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Takeover is how other programs replace those that are loaded, for Upgrade, Replace and Resize.
type Takeover struct {
	// Settings of the new programs. An upgrade within an ABI uses only the version: sizes, bounds and
	// switches stay, and guards that were switched off stay off.
	Settings
	// Hazards and Guarded are the result of a Probe, named by ProbeSet, of the new programs. State of the
	// same ABI is in use, so it cannot be probed itself.
	Hazards, Guarded uint32
	// Open opens the cgroup of this id, for links that must be made. fs.ErrNotExist: it is gone.
	Open func(cgroupID uint64) (*os.File, error)
	// Step is called before each change; its error ends the upgrade there. nil: no calls.
	Step func(name string) error
	// LoseGuards: continue if guards that run now would not load, instead of returning ErrGuardLost.
	LoseGuards bool
}

func (u *Takeover) step(name string) error {
	if u.Step == nil {
		return nil
	}
	return u.Step(name)
}

// Upgrade replaces the loaded programs by those of this version: in each link, the sockhash, the guards and
// the pins. Maps stay, and with them all flows: a socket keeps the verdict with which it entered. It returns
// how many cgroups run the new programs. The caller holds the lock on the state directory.
//
// After each step the programs work together, as all have the same ABI. So the state after an error or a kill
// works, and the next Upgrade, by any version, starts over and ends with one version everywhere.
func (d *Datapath) Upgrade(u Takeover) (links int, err error) {
	defer spellError(&err)
	spec, err := bpf.LoadSockmap()
	if err != nil {
		return 0, fmt.Errorf("read embedded programs: %w", err)
	}
	if err := removeUnfinished(d.layout.dir); err != nil {
		return 0, err
	}
	// Resting guards are those of the old programs.
	if err := d.wakeGuards(); err != nil && !u.LoseGuards {
		return 0, err
	}
	building := d.layout.building(os.Getpid())
	if err := os.Mkdir(building.state(), 0o700); err != nil {
		return 0, fmt.Errorf("make state directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(building.state())) }()
	objs := loaded{types: newTypes()}
	defer objs.Close()
	learn, err := d.loadBeside(&objs, spec, building, &u)
	if err != nil {
		return 0, err
	}
	if err := recordProbes(building.state(), u.ProbeSet); err != nil {
		return 0, err
	}
	return d.exchange(&objs, building, u, func(c *bpf.SockmapConfig) {
		setText(c.Version[:], u.Version)
		c.Hazards, c.Guards, c.Learn = u.Hazards, u.Guarded, uint32(learn)
	})
}

// loadBeside loads all programs of spec with the pinned maps, and pins them in another directory. Of the new
// programs only guards run then, beside the old ones.
func (d *Datapath) loadBeside(
	objs *loaded, spec *ebpf.CollectionSpec, building layout, u *Takeover,
) (bpf.SockmapLearn, error) {
	pinned, err := d.pinnedMaps(spec)
	if err != nil {
		return 0, err
	}
	err = objs.load(spec, pinned)
	closeMaps(pinned)
	if err != nil {
		return 0, err
	}
	added := objs.maps()
	for name := range pinned {
		delete(added, name)
	}
	state := building.state()
	if err := errors.Join(pinAll(state, added), pinAll(state, objs.programs())); err != nil {
		return 0, err
	}
	before, err := d.GuardStates()
	if err != nil {
		return 0, err
	}
	var without []string
	for _, g := range before {
		if g.SwitchedOff() {
			without = append(without, g.Name)
		}
	}
	learn, err := objs.loadOptional(building.state(), without)
	if err != nil {
		return 0, err
	}
	if u.Guarded, err = objs.cureAsKnown(building.state(), u.Guarded); err != nil || u.LoseGuards {
		return learn, err
	}
	return learn, compareGuards(before, building)
}

// compareGuards returns ErrGuardLost for guards that ran before and are not in the new state.
func compareGuards(before []GuardState, building layout) error {
	after, err := guardStates(building.state())
	if err != nil {
		return err
	}
	for i, g := range before {
		if g.Active && !after[i].Active {
			return fmt.Errorf("%w: %s: %s", ErrGuardLost, g.Name, after[i].Why)
		}
	}
	return nil
}

// exchange replaces the running programs by the new ones. The version is written last, and then the digest,
// without which the upgrade counts as unfinished.
func (d *Datapath) exchange(
	objs *loaded, building layout, u Takeover, change func(*bpf.SockmapConfig),
) (links int, err error) {
	// Everything that is opened from here on is new.
	if err := d.closeObjects(); err != nil {
		return 0, err
	}
	if err := u.step("mark"); err != nil {
		return 0, err
	}
	if err := removeIfThere(d.layout.pin(digestPin)); err != nil {
		return 0, fmt.Errorf("mark state as being upgraded: %w", err)
	}
	if err := u.step("guards"); err != nil {
		return 0, err
	}
	none := func(string) bool { return false }
	if err := exchangePins(building.pin(guardsDir), d.layout.pin(guardsDir), none); err != nil {
		return 0, err
	}
	if err := u.step("programs"); err != nil {
		return 0, err
	}
	maps := objs.maps()
	isMap := func(name string) bool { return maps[name] != nil }
	if err := exchangePins(building.state(), d.layout.state(), isMap); err != nil {
		return 0, err
	}
	if err := u.step("verdict"); err != nil {
		return 0, err
	}
	if err := objs.attachVerdict(); err != nil {
		return 0, err
	}
	keys, hosts, err := d.linksOf(d)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := u.step("link"); err != nil {
			return 0, err
		}
		alive, err := d.exchangeLink(objs, key, hosts[key.CgroupID], u.Open)
		if err != nil {
			return 0, err
		}
		if alive {
			links++
		}
	}
	if err := d.exchangeRearm(objs, u); err != nil {
		return 0, err
	}
	return links, d.finish(u, change)
}

func (d *Datapath) exchangeRearm(objs *loaded, u Takeover) error {
	cgroups, err := d.RearmLinks()
	if err != nil {
		return err
	}
	for _, id := range cgroups {
		if err := u.step("rearm"); err != nil {
			return err
		}
		if err := exchangeProgram(d.layout.rearm(id), objs.Rearm); err != nil {
			return err
		}
	}
	return nil
}

func (d *Datapath) finish(u Takeover, change func(*bpf.SockmapConfig)) error {
	if err := u.step("version"); err != nil {
		return err
	}
	if err := d.update(change); err != nil {
		return err
	}
	if err := u.step("finish"); err != nil {
		return err
	}
	return recordDigest(d.layout.state())
}

// exchangeLink puts the new programs into the links of one cgroup, makes missing links, and removes those of
// guards that no longer exist. It reports whether the cgroup exists. hostNetNS is not 0 for the cgroup of a
// pod with hostNetwork.
func (d *Datapath) exchangeLink(
	objs *loaded, key LinkKey, hostNetNS uint64, open func(uint64) (*os.File, error),
) (alive bool, err error) {
	if alive, err = d.linkAlive(key); !alive || err != nil {
		return false, err
	}
	sockOps := objs.SockOps
	switch {
	case key.Manual:
		sockOps = objs.SockOpsAny
	case hostNetNS != 0:
		if sockOps, err = d.loadHost(key.CgroupID, hostNetNS); err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, sockOps.Close()) }()
	}
	missing := false
	for _, g := range cgroupGuards {
		pin := d.layout.link(key) + g.suffix
		prog := objs.options[g.program]
		switch pinned := exists(pin); {
		case pinned && prog != nil:
			err = exchangeProgram(pin, prog)
		case pinned:
			err = os.Remove(pin)
		case prog != nil:
			missing = true
		}
		if err != nil {
			return false, err
		}
	}
	if missing {
		if err := d.completeGuard(key, open); err != nil {
			return false, err
		}
	}
	return true, exchangeProgram(d.layout.link(key), sockOps)
}

// completeGuard attaches those programs of the options guard that the cgroup lacks.
func (d *Datapath) completeGuard(key LinkKey, open func(uint64) (*os.File, error)) error {
	if open == nil {
		return nil
	}
	return ifExists(key.CgroupID, open, func(cgroup *os.File) error { return d.attachOptionsGuard(cgroup, key) })
}

// ifExists opens a cgroup and calls f with it. It is no error if the cgroup is gone.
func ifExists(id uint64, open func(uint64) (*os.File, error), f func(cgroup *os.File) error) error {
	cgroup, err := open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer cgroup.Close()
	return f(cgroup)
}

// SetProbed records the findings of a set of probes about the loaded programs, and their version. The caller
// holds the lock on the state directory.
func (d *Datapath) SetProbed(version, set string, hazards, guarded uint32) error {
	if err := d.wakeGuards(); err != nil {
		return err
	}
	guarded, err := d.addInqGuard(guarded)
	if err != nil {
		return err
	}
	// Without the set's name the next Upgrade probes again, so a kill does no harm.
	if err := removeIfThere(d.layout.pin(probesPin)); err != nil {
		return fmt.Errorf("forget which probes were asked: %w", err)
	}
	err = d.update(func(c *bpf.SockmapConfig) {
		setText(c.Version[:], version)
		c.Hazards, c.Guards = hazards, guarded
	})
	if err != nil {
		return err
	}
	return recordProbes(d.layout.state(), set)
}

// SetVersion records that version has the same programs.
func (d *Datapath) SetVersion(version string) error {
	return d.update(func(c *bpf.SockmapConfig) { setText(c.Version[:], version) })
}
