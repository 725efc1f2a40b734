// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// loadGuards loads and attaches the guards that this kernel allows, except for those in without, and pins
// them below dir. It is no error if a guard does not load: the caller decides whether acceleration may run
// without it. It returns the value of config.learn.
//
// GuardFionread is not among them: see cureFionread.
func (o *loaded) loadGuards(dir string, without []string) (learn bpf.SockmapLearn, err error) {
	from, err := newSource(o.maps(), o.types)
	if err != nil {
		return 0, err
	}
	pins := filepath.Join(dir, guardsDir)
	if err := os.Mkdir(pins, 0o700); err != nil {
		return 0, fmt.Errorf("make directory of guards: %w", err)
	}
	refused := map[string]error{GuardFionread: errors.New(needless)}
	for _, name := range without {
		refused[name] = errors.New(switchedOff)
	}
	for name, ways := range tracingGuards() {
		if refused[name] == nil {
			if refused[name], err = from.attachFirst(ways, filepath.Join(pins, name)); err != nil {
				return 0, err
			}
		}
	}
	if refused[GuardOptions] == nil {
		refused[GuardOptions] = o.loadOptionsGuard(from)
	}
	for name, prog := range o.options {
		if err := prog.Pin(filepath.Join(dir, name)); err != nil {
			return 0, fmt.Errorf("pin guard: %w", err)
		}
	}
	if why := refused[GuardObserve]; why != nil && refused[GuardBlocking] == nil {
		refused[GuardBlocking] = fmt.Errorf("needs the guard %s: %w", GuardObserve, why)
	}
	for name, why := range refused {
		if why != nil {
			if err := pinReason(filepath.Join(pins, name), why); err != nil {
				return 0, err
			}
		}
	}
	if refused[GuardObserve] == nil {
		learn |= bpf.SockmapLearnLEARN_READERS
	}
	if refused[GuardBlocking] == nil {
		learn |= bpf.SockmapLearnLEARN_BLOCKING
	}
	return learn, nil
}

// pinReason pins the reason why a guard does not run.
func pinReason(pin string, refused error) error {
	reason := []rune(strings.Join(strings.Fields(refused.Error()), " "))
	if len(reason) > maxReason {
		reason = append(reason[:maxReason-1], '…')
	}
	if err := os.Symlink(string(reason), pin+reasonSuffix); err != nil {
		return fmt.Errorf("record why a program does not run: %w", err)
	}
	return nil
}

// source loads programs one by one.
type source struct {
	spec  *ebpf.CollectionSpec
	maps  map[string]*ebpf.Map // that the programs use
	types *btf.Cache
	lsm   func() error // nil: LSM programs run on this kernel
}

// newSource picks from maps those that guards use.
func newSource(maps map[string]*ebpf.Map, types *btf.Cache) (source, error) {
	spec, err := bpf.LoadGuard()
	if err != nil {
		return source{}, fmt.Errorf("read embedded guards: %w", err)
	}
	return sourceOf(spec, maps, types)
}

// sourceOf is newSource for a spec of the guards that is read already.
func sourceOf(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, types *btf.Cache) (source, error) {
	used := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if used[name] = maps[name]; used[name] == nil {
			return source{}, fmt.Errorf("load guards: map %s, which they use, is missing", name)
		}
	}
	s := source{spec: spec, maps: used, types: types}
	s.lsm = sync.OnceValue(func() error { return s.tryLSM() })
	return s, nil
}

// pinnable is a program that is attached.
type pinnable struct {
	link.Link
	prog *ebpf.Program
}

func (p pinnable) Close() error { return errors.Join(p.Link.Close(), p.prog.Close()) }

// pin pins both: the link may be removed and made again, see RestGuards.
func (p pinnable) pin(path string) error {
	return errors.Join(p.prog.Pin(path+programSuffix), p.Link.Pin(path))
}

// attachFirst pins the links of the first way that works as <pin>-<function>-<program>, and their programs
// beside them. refused is the reason if the kernel refuses the guard; err is an error of pinning.
func (s source) attachFirst(ways [][]hook, pin string) (refused, err error) {
	for _, way := range ways {
		attached, err := s.attachAll(way)
		if err != nil {
			// All refusals are returned: the first way may lack its function, the second a right.
			if refused != nil {
				err = fmt.Errorf("%w; %w", refused, err)
			}
			refused = err
			continue
		}
		var errs []error
		for i, p := range attached {
			errs = append(errs, p.pin(pin+"-"+way[i].pinName()), p.Close())
		}
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("pin guard: %w", err)
		}
		return nil, nil
	}
	return refused, nil
}

func (s source) attachAll(way []hook) (attached []pinnable, err error) {
	defer func() {
		if err != nil {
			for _, p := range attached {
				p.Close()
			}
		}
	}()
	for _, h := range way {
		if strings.HasPrefix(h.function, lsmPrefix) {
			if err := s.lsm(); err != nil {
				return attached, err
			}
		}
		p, err := s.attachTracing(h)
		if err != nil {
			return attached, err
		}
		attached = append(attached, p)
	}
	return attached, nil
}

func (s source) attachTracing(h hook) (pinnable, error) {
	prog, err := s.loadOne(h)
	if err != nil {
		return pinnable{}, fmt.Errorf("load guard for %s: %w", h.function, err)
	}
	l, err := attachTo(prog)
	if err != nil {
		return pinnable{}, errors.Join(fmt.Errorf("attach %s to %s: %w", h.program, h.function, err), prog.Close())
	}
	return pinnable{l, prog}, nil
}

func attachTo(prog *ebpf.Program) (link.Link, error) {
	if prog.Type() == ebpf.LSM {
		return link.AttachLSM(link.LSMOptions{Program: prog})
	}
	return link.AttachTracing(link.TracingOptions{Program: prog})
}

// loadOne loads one program with the maps that the data path uses.
func (s source) loadOne(h hook) (*ebpf.Program, error) {
	prog := s.spec.Programs[h.program].Copy()
	if h.function != "" {
		prog.AttachTo = strings.TrimPrefix(h.function, lsmPrefix)
	}
	one := &ebpf.CollectionSpec{
		Maps:      map[string]*ebpf.MapSpec{},
		Programs:  map[string]*ebpf.ProgramSpec{h.program: prog},
		Types:     s.spec.Types,
		ByteOrder: s.spec.ByteOrder,
	}
	replace := map[string]*ebpf.Map{}
	for name, m := range s.maps {
		one.Maps[name], replace[name] = s.spec.Maps[name].Copy(), m
		one.Maps[name].MaxEntries = m.MaxEntries() // of the settings, not of the source
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: replace,
		Cache: s.types})
	// The library guesses a memlock limit then, which Load has removed.
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM
	}
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(h.program), nil
}

// loadOptionsGuard loads all of the guard's programs or none.
func (o *loaded) loadOptionsGuard(from source) error {
	programs := map[string]*ebpf.Program{}
	for _, g := range cgroupGuards {
		prog, err := from.loadOne(hook{program: g.program})
		if err != nil {
			for _, loaded := range programs {
				loaded.Close()
			}
			return fmt.Errorf("load guard for %s: %w", optionsHook, err)
		}
		programs[g.program] = prog
	}
	o.options = programs
	return nil
}
