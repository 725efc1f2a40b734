// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Load makes and pins everything below dir, which must be an existing directory on bpffs, and returns a
// handle on it. What is loaded already is only opened. The caller holds the lock on dir.
//
// It publishes by one rename, so a killed Load leaves nothing but a directory that the next one removes.
func Load(dir string, s Settings) (d *Datapath, err error) {
	err = within(dir, func(dir string) error {
		d, err = loadIn(dir, s)
		return err
	})
	return d, err
}

func loadIn(dir string, s Settings) (*Datapath, error) {
	if err := removeUnfinished(dir); err != nil {
		return nil, err
	}
	d, err := Open(dir)
	if !errors.Is(err, ErrNotLoaded) {
		return d, err
	}
	spec, err := bpf.LoadSockmap()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	if err := build(current(dir), spec, s, publishMarked); err != nil {
		return nil, err
	}
	return Open(dir)
}

// publish moves the finished state to its place in l.
func publish(l, building layout) error {
	if err := os.Rename(building.state(), l.state()); err != nil {
		return fmt.Errorf("publish state directory: %w", err)
	}
	return nil
}

// build makes a state of the programs in spec and calls finish with it. After an error nothing is left.
func build(
	l layout, spec *ebpf.CollectionSpec, s Settings, finish func(l, building layout) error,
) (err error) {
	if err := haveDescriptors(loadDescriptors); err != nil {
		return err
	}
	building := l.building(os.Getpid())
	if err := os.MkdirAll(building.links(), 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(building.state()))
		}
	}()
	spec.Maps[bpf.SockmapMapSockets].MaxEntries = s.MaxSockets
	spec.Maps[bpf.SockmapMapFlows].MaxEntries = s.MaxSockets
	objs := loaded{types: newTypes()}
	if err := objs.load(spec, nil); err != nil {
		return err
	}
	defer objs.Close()
	if err := objs.fill(building.state(), s); err != nil {
		return err
	}
	return finish(l, building)
}

// fill loads and pins everything. Guards are attached before the probes run, so probes see what they cure.
func (o *loaded) fill(building string, s Settings) error {
	if err := o.prepare(s); err != nil {
		return err
	}
	if err := errors.Join(pinAll(building, o.maps()), pinAll(building, o.programs())); err != nil {
		return err
	}
	learn, err := o.loadOptional(building, s.WithoutGuards)
	if err != nil {
		return err
	}
	if err := o.learn(learn); err != nil {
		return err
	}
	if s.Probe != nil {
		if err := o.examine(building, s.Probe); err != nil {
			return err
		}
		if err := recordProbes(building, s.ProbeSet); err != nil {
			return err
		}
	}
	return recordDigest(building)
}

// loadOptional loads and pins programs that a kernel may refuse.
func (o *loaded) loadOptional(building string, withoutGuards []string) (bpf.SockmapLearn, error) {
	if err := o.loadIterator(building); err != nil {
		return 0, err
	}
	return o.loadGuards(building, withoutGuards)
}

// loaded holds the loaded programs and maps. There are no global variables, which would need one more map.
type loaded struct {
	objects
	options map[string]*ebpf.Program // the programs of GuardOptions; empty if the kernel refuses them
	types   *btf.Cache               // BTF of the kernel, parsed once as that takes long
}

// newTypes is a variable so that tests, which load often, parse the kernel's BTF only once.
var newTypes = btf.NewCache

type objects struct {
	bpf.SockmapPrograms
	bpf.SockmapMaps
}

func (o *loaded) Close() error {
	errs := []error{o.SockmapPrograms.Close(), o.SockmapMaps.Close()}
	for _, prog := range o.options {
		errs = append(errs, prog.Close())
	}
	return errors.Join(errs...)
}

// load loads the programs of spec with these maps, by name, and makes missing ones.
func (o *loaded) load(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) error {
	if err := size(spec); err != nil {
		return err
	}
	for name, m := range maps {
		spec.Maps[name].MaxEntries = m.MaxEntries() // of the settings, not of the source
	}
	err := spec.LoadAndAssign(&o.objects, &ebpf.CollectionOptions{MapReplacements: maps, Cache: o.types})
	if err != nil {
		return explainLoad(err)
	}
	return nil
}

// prepare makes the maps ready for the first socket: bounds, the unregistered entry of totals, and the
// verdict.
func (o *loaded) prepare(s Settings) error {
	cfg := bpf.SockmapConfig{Abi: ABI, LoadedNs: bootTime()}
	s.Live().write(&cfg)
	setText(cfg.Version[:], s.Version)
	if err := o.Config.Put(uint32(0), &cfg); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	if err := errors.Join(newTotals(o.Totals, unregistered), newShare(o.Shares, unregistered)); err != nil {
		return err
	}
	return o.attachVerdict()
}

// attachVerdict attaches the verdict to the sockhash, replacing another: sockets that enter from now on get
// it. Those that are in keep theirs.
func (o *loaded) attachVerdict() error {
	// Attached to the map itself, so it needs no pin of its own and works on kernels without sockmap links
	// (6.10).
	err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: o.Sockets.FD(), Program: o.Verdict, Attach: ebpf.AttachSkMsgVerdict,
	})
	if err != nil {
		return fmt.Errorf("attach verdict to sockhash: %w", err)
	}
	return nil
}

func (o *loaded) maps() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpf.SockmapMapAnswers:     o.Answers,
		bpf.SockmapMapAttachments: o.Attachments,
		bpf.SockmapMapAvoid:       o.Avoid,
		bpf.SockmapMapCalls:       o.Calls,
		bpf.SockmapMapConfig:      o.SockmapMaps.Config,
		bpf.SockmapMapEndpoints:   o.Endpoints,
		bpf.SockmapMapEvents:      o.Events,
		bpf.SockmapMapFlows:       o.Flows,
		bpf.SockmapMapHistory:     o.History,
		bpf.SockmapMapKeepalives:  o.Keepalives,
		bpf.SockmapMapResets:      o.Resets,
		bpf.SockmapMapShares:      o.Shares,
		bpf.SockmapMapSplicing:    o.Splicing,
		bpf.SockmapMapSockets:     o.Sockets,
		bpf.SockmapMapStates:      o.States,
		bpf.SockmapMapTapDrops:    o.TapDrops,
		bpf.SockmapMapTapRing:     o.TapRing,
		bpf.SockmapMapTotals:      o.Totals,
	}
}

func (o *loaded) programs() map[string]*ebpf.Program {
	return map[string]*ebpf.Program{
		bpf.SockmapProgRearm:      o.Rearm,
		bpf.SockmapProgSockOps:    o.SockOps,
		bpf.SockmapProgSockOpsAny: o.SockOpsAny,
		bpf.SockmapProgVerdict:    o.Verdict,
	}
}

func pinAll[T interface{ Pin(string) error }](dir string, objects map[string]T) error {
	for name, object := range objects {
		if err := object.Pin(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// explainLoad finds out what the kernel lacks. It is called only after the kernel has refused programs.
func explainLoad(err error) error {
	if _, statErr := os.Stat("/sys/kernel/btf/vmlinux"); statErr != nil {
		return fmt.Errorf("%w: no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF): %w", ErrUnsupported, err)
	}
	if refused := explainRefusal(err, "/"); refused != nil {
		return refused
	}
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return fmt.Errorf("load programs: %w", err) // a test of features would fail for the same reason
	}
	probe := features.HaveMapType(ebpf.SockHash)
	if errors.Is(probe, unix.EPERM) {
		err = fmt.Errorf("%w: %v", unix.EPERM, err) // the library's error for some maps on old kernels
	}
	if errors.Is(probe, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w: no sockhash (CONFIG_NET_SOCK_MSG, CONFIG_BPF_STREAM_PARSER): %w", ErrUnsupported,
			err)
	}
	if errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w (5.15 or newer is needed): %w", ErrUnsupported, err)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("load programs: %w (run as root in the initial user namespace, or with CAP_BPF, "+
			"CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN)", err)
	}
	return fmt.Errorf("load programs: %w", err)
}
