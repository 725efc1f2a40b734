// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Replace replaces state of an older ABI, which ReadOld has read, by state of this one. New connections use
// the new state. The old state drains: its flows continue with its programs, maps and guards, until
// ReapDrained finds none left. Attachments, endpoints, links, bounds, totals and the kill switch are carried
// over. It returns how many cgroups have a link. The caller holds the lock on dir.
//
// A connection that is established while links are exchanged may have one end in each state. Such ends do not
// pair and use TCP. The next Settle completes a Replace that was killed.
func Replace(dir string, old Old, u Takeover) (links int, err error) {
	err = within(dir, func(dir string) error {
		links, err = replaceIn(dir, old, u)
		return err
	})
	return links, err
}

func replaceIn(dir string, old Old, u Takeover) (links int, err error) {
	if err := removeUnfinished(dir); err != nil {
		return 0, err
	}
	spec, err := bpf.LoadSockmap()
	if err != nil {
		return 0, fmt.Errorf("read embedded programs: %w", err)
	}
	s := u.Settings
	s.MaxSockets = old.settings.MaxSockets
	s.setLive(old.settings.Live())
	if err := u.step("build"); err != nil {
		return 0, err
	}
	from := layout{dir, stateName(old.ABI)}
	err = build(current(dir), spec, s, func(l, building layout) error {
		return takeOver(from, building, old.ABI, old.config, &u, func() error { return publish(l, building) })
	})
	if err != nil {
		return 0, err
	}
	return settleNew(dir, u)
}

// takeOver prepares the new state to replace the state from, which is in force with this configuration, and
// calls put, which does so.
func takeOver(
	from, building layout, abi uint32, config bpf.SockmapConfig, u *Takeover, put func() error,
) error {
	d := open(building)
	defer d.Close()
	err := d.update(func(c *bpf.SockmapConfig) {
		c.Disabled, c.DisabledNs, c.Epoch = config.Disabled, coarse(), config.Epoch
	})
	if err != nil {
		return err
	}
	if isUnloading(from) {
		if err := markUnloading(building); err != nil {
			return err
		}
	}
	if err := errors.Join(d.carrySwitches(from), d.carry(from, abi, ebpf.UpdateAny, u)); err != nil {
		return err
	}
	if err := u.step("publish"); err != nil {
		return err
	}
	return put()
}

// settleNew completes a takeOver, and counts the cgroups with a link.
func settleNew(dir string, u Takeover) (links int, err error) {
	d, err := Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if err := d.Settle(u); err != nil {
		return 0, err
	}
	keys, err := d.LinkKeys()
	return len(keys), err
}

// Settle completes a Replace: afterwards no state of an older ABI is in force. If there is none it does
// nothing. The caller holds the lock on the state directory.
func (d *Datapath) Settle(u Takeover) (err error) {
	defer spellError(&err)
	found, err := FindLeftovers(d.layout.dir)
	if err != nil {
		return err
	}
	for _, abi := range found.Older {
		if Conversions[abi] == nil {
			return &StateError{Path: layout{d.layout.dir, stateName(abi)}.state(), Found: fmt.Sprintf("ABI %d", abi),
				Own: "none beside its own"}
		}
		// Made before the kill, or by the old version after it.
		old := layout{d.layout.dir, stateName(abi)}
		if err := d.carry(old, abi, ebpf.UpdateNoExist, &u); err != nil {
			return err
		}
		if err := d.retire(old, &u); err != nil {
			return err
		}
		if err := u.step("drain"); err != nil {
			return err
		}
		if err := os.Rename(old.state(), old.draining().state()); err != nil {
			return fmt.Errorf("let state of ABI %d drain: %w", abi, err)
		}
	}
	if slices.Contains(found.Draining, ABI) {
		return d.retire(d.layout.draining(), &u)
	}
	return nil
}

// carried are the maps that are carried over to another ABI. Attachments come first, as in an ADD: they name
// everything else.
var carried = [...]struct {
	pin       string
	valueSize uintptr
}{
	{bpf.SockmapMapAttachments, unsafe.Sizeof(bpf.SockmapAttachment{})},
	{bpf.SockmapMapTotals, unsafe.Sizeof(bpf.SockmapTotals{})},
	{bpf.SockmapMapEndpoints, unsafe.Sizeof(bpf.SockmapEndpoint{})},
	{bpf.SockmapMapAvoid, unsafe.Sizeof(bpf.SockmapAvoided{})},
}

// carry brings entries and links of another state, of this ABI or an older one, into this one.
func (d *Datapath) carry(old layout, abi uint32, how ebpf.MapUpdateFlags, u *Takeover) error {
	for _, m := range carried {
		if err := u.step("carry " + m.pin); err != nil {
			return err
		}
		to, err := d.mapOf(m.pin, m.valueSize)
		if err != nil {
			return err
		}
		if err := carryMap(old, to, m.pin, conversionFrom(abi), how); err != nil {
			return fmt.Errorf("carry %s of ABI %d over: %w", m.pin, abi, err)
		}
	}
	if err := d.makeShares(); err != nil {
		return err
	}
	keys, hosts, err := d.linksOf(open(old))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := u.step("carry link"); err != nil {
			return err
		}
		if err := d.carryLink(key, hosts, u.Open); err != nil && !errors.Is(err, ErrTooManyPrograms) {
			return err // one of the 64 programs is ours, and will be detached
		}
	}
	return nil
}

// conversionFrom returns the Conversion from abi; for this ABI it changes nothing.
func conversionFrom(abi uint32) Conversion {
	if abi == ABI {
		return func(_ string, key, value []byte) (newKey, newValue []byte, err error) { return key, value, nil }
	}
	return Conversions[abi]
}

// carryLink attaches to a cgroup that has a link in the old state. It is no error if the cgroup is gone.
func (d *Datapath) carryLink(
	key LinkKey, hosts map[uint64]uint64, open func(uint64) (*os.File, error),
) error {
	if alive, err := d.linkAlive(key); alive || err != nil {
		return err
	}
	return ifExists(key.CgroupID, open, func(cgroup *os.File) (err error) {
		if hostNetNS := hosts[key.CgroupID]; hostNetNS != 0 && !key.Manual {
			_, err = d.AttachHost(cgroup, key, hostNetNS)
		} else {
			_, err = d.Attach(cgroup, key)
		}
		return err
	})
}

func carryMap(old layout, to *ebpf.Map, pin string, convert Conversion, how ebpf.MapUpdateFlags) error {
	from, err := ebpf.LoadPinnedMap(old.pin(pin), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // this ABI had no such map
	}
	if err != nil {
		return err
	}
	defer from.Close()
	var keys [][]byte
	for key, err := nextKey(from, nil); key != nil || err != nil; key, err = nextKey(from, key) {
		if err != nil {
			return err
		}
		if keys = append(keys, key); len(keys) > int(from.MaxEntries()) {
			break // it changes while it is read: a map of hints, which needs no lock
		}
	}
	for _, key := range keys {
		value, err := from.LookupBytes(key)
		if err != nil {
			return err
		}
		if value == nil {
			continue // evicted meanwhile
		}
		if err := carryEntry(from, to, pin, key, value, convert, how); err != nil {
			return err
		}
	}
	return nil
}

func carryEntry(
	from, to *ebpf.Map, pin string, key, value []byte, convert Conversion, how ebpf.MapUpdateFlags,
) error {
	var converted any
	newKey, one, err := convert(pin, key, value[:from.ValueSize()])
	converted = one
	if perCPU := (int(from.ValueSize()) + 7) &^ 7; pin == bpf.SockmapMapTotals && err == nil {
		all := [][]byte{one}
		for at := perCPU; at+perCPU <= len(value) && err == nil; at += perCPU {
			_, one, err = convert(pin, key, value[at:at+int(from.ValueSize())])
			all = append(all, one)
		}
		converted = all
	}
	if err != nil || newKey == nil {
		return err
	}
	err = waitForRefill(func() error { return to.Update(newKey, converted, how) })
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return err
	}
	return nil
}

// retire removes the sock_ops links of a state that this one replaces, cgroup by cgroup. The guards of its
// live sockets stay.
func (d *Datapath) retire(old layout, u *Takeover) error {
	keys, hosts, err := d.linksOf(open(old))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !exists(old.link(key)) {
			continue // what is left of it are guards
		}
		if err := u.step("detach old link"); err != nil {
			return err
		}
		if err := detachNow(old.link(key)); err != nil {
			return fmt.Errorf("detach link of %s: %w", old.name, err)
		}
		// The cgroup may have been full; now it has a free slot.
		if err := d.carryLink(key, hosts, u.Open); err != nil {
			return err
		}
	}
	return nil
}

// detachNow removes a link and its pin. If only the pin were removed, the link would run for a moment longer.
func detachNow(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return err
	}
	return os.Remove(pin)
}
