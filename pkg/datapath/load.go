// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Load makes and pins everything below dir, which must be an existing directory on bpffs, and returns a handle on
// it. What is loaded already is only opened. The caller holds the lock on dir.
//
// It publishes by one rename, so a killed Load leaves nothing but a directory that the next one removes.
func Load(dir string, s Settings) (*Datapath, error) {
	l := layout{dir}
	if err := removeUnfinished(l); err != nil {
		return nil, err
	}
	d, err := Open(dir)
	if !errors.Is(err, ErrNotLoaded) {
		return d, err
	}
	if err := build(l, s); err != nil {
		return nil, err
	}
	return Open(dir)
}

func build(l layout, s Settings) (err error) {
	building := l.building(os.Getpid())
	if err := os.MkdirAll(filepath.Join(building, "links"), 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(building))
		}
	}()
	var objs loaded
	if err := objs.load(s); err != nil {
		return err
	}
	defer objs.Close()
	if err := objs.fill(building, s); err != nil {
		return err
	}
	if err := os.Rename(building, l.state()); err != nil {
		return fmt.Errorf("publish state directory: %w", err)
	}
	return nil
}

// fill makes the directory complete. Guards run before the probes, which see what they cure.
func (o *loaded) fill(building string, s Settings) error {
	if err := o.prepare(s); err != nil {
		return err
	}
	if err := o.pin(building); err != nil {
		return err
	}
	if err := o.loadIterator(building); err != nil {
		return err
	}
	learn, err := o.loadGuards(building, s.WithoutGuards)
	if err != nil {
		return err
	}
	if err := o.learn(learn); err != nil {
		return err
	}
	if s.Probe != nil {
		return o.examine(s.Probe)
	}
	return nil
}

// loaded is what goes into the kernel: no global variables, which would be one more map.
type loaded struct {
	objects
	options map[string]*ebpf.Program // the programs of GuardOptions; empty where the kernel does not take that guard
}

type objects struct {
	bpfPrograms
	bpfMaps
}

func (o *loaded) Close() error {
	errs := []error{o.bpfPrograms.Close(), o.bpfMaps.Close()}
	for _, prog := range o.options {
		errs = append(errs, prog.Close())
	}
	return errors.Join(errs...)
}

func (o *loaded) load(s Settings) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read embedded programs: %w", err)
	}
	spec.Maps[bpfMapSockets].MaxEntries = s.MaxSockets
	spec.Maps[bpfMapFlows].MaxEntries = s.MaxSockets
	if err := spec.LoadAndAssign(&o.objects, nil); err != nil {
		return explainLoad(err)
	}
	return nil
}

// prepare makes the maps ready for the first socket: bounds, the gathering entry of totals, and the verdict.
func (o *loaded) prepare(s Settings) error {
	cfg := bpfConfig{
		Abi:                ABI,
		MaxBacklogBytes:    s.MaxBacklogBytes,
		MaxBacklogMessages: s.MaxBacklogMessages,
		LoadedNs:           bootTime(),
	}
	setText(cfg.Version[:], s.Version)
	if err := o.Config.Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	if err := newTotals(o.Totals, unregistered); err != nil {
		return err
	}
	// Attached to the map itself, so it needs no pin of its own and works on kernels without sockmap links (6.10).
	err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: o.Sockets.FD(), Program: o.Verdict, Attach: ebpf.AttachSkMsgVerdict,
	})
	if err != nil {
		return fmt.Errorf("attach verdict to sockhash: %w", err)
	}
	return nil
}

func (o *loaded) pin(dir string) error {
	pins := map[string]interface{ Pin(string) error }{
		bpfMapAttachments: o.Attachments, bpfMapAvoid: o.Avoid, bpfMapConfig: o.bpfMaps.Config, bpfMapEndpoints: o.Endpoints,
		bpfMapFlows: o.Flows, bpfMapSplicing: o.Splicing, bpfMapSockets: o.Sockets, bpfMapStates: o.States, bpfMapTapDrops: o.TapDrops,
		bpfMapTapRing: o.TapRing, bpfMapTotals: o.Totals,
		bpfProgSockOps: o.SockOps, bpfProgSockOpsAny: o.SockOpsAny,
		bpfProgVerdict: o.Verdict,
	}
	for name, object := range pins {
		if err := object.Pin(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// explainLoad asks what the kernel lacks only once it has refused.
func explainLoad(err error) error {
	if _, statErr := os.Stat("/sys/kernel/btf/vmlinux"); statErr != nil {
		return fmt.Errorf("%w: no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF): %w", ErrUnsupported, err)
	}
	if probe := features.HaveMapType(ebpf.SockHash); errors.Is(probe, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w: no sockhash (CONFIG_NET_SOCK_MSG, CONFIG_BPF_STREAM_PARSER): %w", ErrUnsupported, err)
	}
	if errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w (5.15 or newer is needed): %w", ErrUnsupported, err)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("load programs: %w (root in the initial user namespace, or CAP_BPF, CAP_NET_ADMIN and "+
			"CAP_PERFMON)", err)
	}
	return fmt.Errorf("load programs: %w", err)
}

// removeUnfinished removes what a killed Load or Unload left. The caller's lock says that nobody is at work there.
func removeUnfinished(l layout) error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("read state directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), buildingPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(l.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Unload stops and removes everything below dir. Live flows go to TCP and lose nothing: the kill switch is turned
// first, and sockets keep their verdict and with it the switch. The caller holds the lock on dir.
//
// Without force it refuses state of another version; with it, whatever stands there is removed.
func Unload(dir string, force bool) error {
	d, err := Open(dir)
	switch {
	case err == nil:
		err = d.SetDisabled(true)
		err = errors.Join(err, d.Close())
	case errors.Is(err, ErrNotLoaded), force:
		err = nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, removeState(layout{dir}, e.Name()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state directory: %w", err)
	}
	return nil
}

// removeState renames first: a removal that is killed half-way is then finished by the next Load.
func removeState(l layout, name string) error {
	doomed := l.building(os.Getpid())
	if strings.HasPrefix(name, buildingPrefix) {
		doomed = filepath.Join(l.dir, name)
	} else if err := os.Rename(filepath.Join(l.dir, name), doomed); err != nil {
		return err
	}
	return os.RemoveAll(doomed)
}
