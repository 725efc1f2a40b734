// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Settings are node-wide. MaxSockets counts both ends of each connection and only takes effect when the maps
// are made; what Live has, too, can change at any time.
type Settings struct {
	MaxSockets         uint32
	MaxBacklogBytes    uint32
	MaxBacklogMessages uint32
	NATRefreshSeconds  uint32
	Coexist            Coexist
	Helpers            Helpers
	Version            string   // of the program that loads, for status
	WithoutGuards      []string // names of guards that are not to be loaded
	Probe              Probe    // nil: no probe runs, and no hazard is known
	ProbeSet           string   // name of the set of probes, to distinguish its findings from those of others
}

// Config is the configuration that is in force.
type Config struct {
	Settings
	Disabled bool
	Epoch    uint32
	LoadedAt time.Time
	Learn    bool   // a direction waits for its reader's first receive call
	Blocking bool   // and readers that wait inside receive calls are left to TCP
	Hazards  uint32 // that the kernel has, a bit for each of pkg/hazard
	Guarded  uint32 // those among them that a guard cures, even if it rests
	Tapped   bool   // a tap is alive
	Foreign  bool   // in some cgroup a sock_ops program of others runs after ours
	Shares   bool   // coexist is share: cgroups where another program owns a sockhash are accelerated, too
}

func (d *Datapath) config() (cfg bpf.SockmapConfig, err error) {
	if d.knownConfig != nil {
		return *d.knownConfig, nil
	}
	d.ConfigReads++
	m, err := d.mapOf(bpf.SockmapMapConfig, unsafe.Sizeof(cfg))
	if err != nil {
		return cfg, err
	}
	if m.Type() != ebpf.Array {
		return cfg, &StateError{Path: d.layout.pin(bpf.SockmapMapConfig), Found: "a " + m.Type().String(),
			Own: "an Array"}
	}
	if err := m.Lookup(uint32(0), &cfg); err != nil {
		return cfg, fmt.Errorf("read config map: %w", err)
	}
	if d.locked {
		known := cfg
		d.knownConfig = &known
	}
	return cfg, nil
}

// Config reads the settings that are in force.
func (d *Datapath) Config() (Config, error) {
	// Before and after, because a holder of the lock may wake the guards in between.
	guardedBefore, _, err := restingGuards(d.layout.state())
	if err != nil {
		return Config{}, err
	}
	cfg, err := d.config()
	if err != nil {
		return Config{}, err
	}
	sockets, err := d.mapOf(bpf.SockmapMapSockets, 8)
	if err != nil {
		return Config{}, err
	}
	guarded, rest, err := restingGuards(d.layout.state())
	if err != nil {
		return Config{}, err
	}
	guarded |= guardedBefore
	if !rest {
		guarded |= cfg.Guards
	}
	settings := Settings{MaxSockets: sockets.MaxEntries(), Version: text(cfg.Version[:])}
	settings.setLive(decodeLive(&cfg))
	return Config{
		Settings: settings,
		Disabled: cfg.Disabled != 0,
		Epoch:    cfg.Epoch,
		LoadedAt: sinceBoot(cfg.LoadedNs),
		Learn:    cfg.Learn != 0,
		Blocking: cfg.Learn&uint32(bpf.SockmapLearnLEARN_BLOCKING) != 0,
		Hazards:  cfg.Hazards,
		Guarded:  guarded,
		Tapped:   tapLeft(&cfg) > 0,
		Foreign:  cfg.Foreign != 0,
		Shares:   cfg.Coexist == uint32(bpf.SockmapCoexistCOEXIST_SHARE),
	}, nil
}

// update changes the config map. The caller holds the lock, so nobody else writes between the read and the
// write; programs see either the old or the new words.
func (d *Datapath) update(change func(*bpf.SockmapConfig)) error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	was := cfg
	change(&cfg)
	if cfg == was {
		return nil
	}
	d.knownConfig = nil // after an error it is not known what the map holds
	if err := d.maps[bpf.SockmapMapConfig].Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	if d.locked {
		d.knownConfig = &cfg
	}
	return nil
}

// SetDisabled turns the kill switch on or off, also for draining flows. When it is on, every live flow falls
// back to TCP with its next message. Bytes that were redirected before are read first, so none is lost or
// reordered. It also decides for an interrupted unload, see Unloading.
func (d *Datapath) SetDisabled(disabled bool) error {
	if !disabled {
		// The mark is removed last: without it a switch that is still on would count as set by a person.
		return errors.Join(d.turnSwitch(false), forgetUnloading(d.layout))
	}
	if err := forgetUnloading(d.layout); err != nil {
		return err
	}
	return d.turnSwitch(true)
}

// turnSwitch turns the switch of the state in force last, because that one shows whether a killed call must
// be repeated.
func (d *Datapath) turnSwitch(disabled bool) error {
	drains := eachDraining(d.layout.dir, func(l layout, abi uint32) error { return switchOld(l, abi, disabled) })
	return errors.Join(drains, d.update(func(c *bpf.SockmapConfig) {
		was := c.Disabled
		c.Disabled = 0
		if disabled {
			c.Disabled = 1
		}
		if c.Disabled != was {
			c.DisabledNs = coarse()
		}
	}))
}

// bumpEpoch makes every live socket ask its policy again. A socket that must change to TCP may wait for its
// reader until EpochNs is a second ago, so EpochNs must not change with each of many containers.
func (d *Datapath) bumpEpoch() error {
	return d.update(func(c *bpf.SockmapConfig) {
		c.Epoch++
		if now := coarse(); now-c.EpochNs >= uint64(2*time.Second) {
			c.EpochNs = now
		}
	})
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// setText copies s, cut to what fits with a final NUL: these texts are for people, keys are hashes.
func setText(dst []byte, s string) {
	clear(dst)
	copy(dst[:len(dst)-1], s)
}

func bootTime() uint64 {
	var ts unix.Timespec
	// It cannot fail for a clock that exists since 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return uint64(ts.Nano())
}

func sinceBoot(ns uint64) time.Time {
	return time.Now().Add(-time.Duration(bootTime() - ns)).Round(time.Millisecond)
}
