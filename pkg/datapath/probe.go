// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Probe finds the hazards of this kernel. It is called at load, before anything is published. attach attaches
// the loaded programs to a cgroup until the Closer is closed. With names it looks for these hazards alone. It
// returns the hazards that the kernel has, and those among them that a guard cures, a bit for each.
type Probe func(
	attach func(cgroup *os.File) (io.Closer, error), names ...string,
) (hazards, guarded uint32, err error)

// probesPin is a symbolic link whose target names the probes that have found what the config map says.
const probesPin = "probes"

// recordProbes does nothing for probes without a name, whose findings cannot be compared with others.
func recordProbes(dir, set string) error {
	if set == "" {
		return nil
	}
	if err := os.Symlink(set, filepath.Join(dir, probesPin)); err != nil {
		return fmt.Errorf("record which probes were asked: %w", err)
	}
	return nil
}

// ProbeSet names the probes that have found the hazards of Config. It is empty if that is not known.
func (d *Datapath) ProbeSet() string { return d.noted(probesPin) }

// examine runs the probe, loads below dir the guard of FIONREAD if the probe asks for it, and removes the
// probe's traces from the maps.
func (o *loaded) examine(dir string, probe Probe) error {
	look := func(names ...string) (hazards, guarded uint32, err error) {
		hazards, guarded, err = probe(o.attachForProbe, names...)
		if err != nil {
			err = fmt.Errorf("%w%s", err, o.probedByTCP())
		}
		return hazards, guarded, err
	}
	hazards, guarded, err := look()
	if err != nil {
		return err
	}
	cured, err := o.cureFionread(dir, hazards, look)
	if err != nil {
		return err
	}
	return o.recordHazards(hazards, guarded|cured)
}

// recordHazards writes the findings into the config map, and removes the probes' traces from other maps.
func (o *loaded) recordHazards(hazards, guarded uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	if err := o.Totals.Put(unregistered, make([]bpf.SockmapTotals, cpus)); err != nil {
		return fmt.Errorf("reset totals: %w", err)
	}
	if err := o.resetEvents(); err != nil {
		return err
	}
	var port bpf.SockmapListeningPort
	for o.Avoid.NextKey(nil, &port) == nil {
		if err := o.Avoid.Delete(port); err != nil {
			return fmt.Errorf("reset avoided ports: %w", err)
		}
	}
	var cfg bpf.SockmapConfig
	if err := o.SockmapMaps.Config.Lookup(uint32(0), &cfg); err != nil {
		return fmt.Errorf("read config map: %w", err)
	}
	cfg.Hazards, cfg.Guards = hazards, guarded
	if err := o.SockmapMaps.Config.Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	return nil
}

// probedByTCP returns why messages of the probe used TCP, for the error of a failed probe.
func (o *loaded) probedByTCP() string {
	var cpus []bpf.SockmapTotals
	if err := o.Totals.Lookup(unregistered, &cpus); err != nil {
		return ""
	}
	var sum bpf.SockmapTotals
	for i := range cpus {
		addTotals(&sum, &cpus[i])
	}
	var why []string
	for _, r := range Reasons() {
		if n := sum.Fallbacks[r]; n > 0 {
			why = append(why, fmt.Sprintf("%s %d", r, n))
		}
	}
	if len(why) == 0 {
		return ""
	}
	return " (messages of all probes over TCP: " + strings.Join(why, ", ") + ")"
}

// learn sets why the observers run.
func (o *loaded) learn(what bpf.SockmapLearn) error {
	var cfg bpf.SockmapConfig
	if err := o.SockmapMaps.Config.Lookup(uint32(0), &cfg); err != nil {
		return fmt.Errorf("read config map: %w", err)
	}
	cfg.Learn = uint32(what)
	if err := o.SockmapMaps.Config.Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	return nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// attachForProbe attaches without pins, so that a killed probe leaves nothing.
func (o *loaded) attachForProbe(cgroup *os.File) (io.Closer, error) {
	attach := map[ebpf.AttachType]*ebpf.Program{ebpf.AttachCGroupSockOps: o.SockOpsAny}
	// Without the guard that completes TCP_INFO, which a probe reads to learn what used TCP.
	if prog := o.options[bpf.GuardProgRefuseOption]; prog != nil {
		attach[ebpf.AttachCGroupSetsockopt] = prog
	}
	var attached closers
	for at, prog := range attach {
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(cgroup.Fd()), Program: prog, Attach: at})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach programs under test: %w", explainAttach(err)), attached.Close())
		}
		attached = append(attached, l)
	}
	return attached, nil
}
