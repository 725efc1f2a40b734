// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The guards, by the names that configuration and status use. Each makes redirected sockets behave where the kernel's
// own code for them does not; see bpf/guard.bpf.c.
const (
	GuardSplice   = "splice"   // splice(2) out of a redirected socket: EINVAL instead of nothing or a hang
	GuardObserve  = "observe"  // learn the flags of receive and send before redirecting
	GuardBlocking = "blocking" // leave readers that wait inside receive calls to TCP; a part of the observers' work
	GuardOptions  = "options"  // refuse SO_ZEROCOPY, TCP_ULP and TCP_INQ once a socket is paired, and complete TCP_INFO
)

// Guards lists all of them.
var Guards = [...]string{GuardSplice, GuardObserve, GuardBlocking, GuardOptions}

// GuardState says whether a guard runs, and if not, why.
type GuardState struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Hook   string `json:"hook,omitempty"` // where it hooks in
	Why    string `json:"why,omitempty"`  // it does not: what the kernel said, or switchedOff
}

// SwitchedOff tells a guard that was not wanted from one that this kernel refused.
func (s GuardState) SwitchedOff() bool { return s.Why == switchedOff }

const switchedOff = "switched off by configuration"

// reasonSuffix is behind a guard's name where the guard does not run. bpffs holds no files, but symbolic links, and their
// targets may be any text: it is the reason.
const reasonSuffix = "-off"

// maxReason is about two lines. What the verifier says can be much longer.
const maxReason = 200

// optionsHook is where the guard of options runs, once for each cgroup.
const optionsHook = "cgroup/setsockopt"

// cgroupGuards are the programs of GuardOptions, which is linked to each cgroup beside sock_ops, and what stands behind the
// name of the link's pin.
var cgroupGuards = [...]struct {
	program, suffix string
	attach          ebpf.AttachType
}{
	{guardProgRefuseOption, "-options", ebpf.AttachCGroupSetsockopt},
	{guardProgCorrectAnswer, "-info", ebpf.AttachCGroupGetsockopt},
}

// hook is one program of a guard and the function that it hooks.
type hook struct{ program, function string }

// pinName tells programs of a guard apart that hook the same function. In it stands the function, where GuardStates looks
// for it.
func (h hook) pinName() string { return h.function + "-" + h.program }

// tracingGuards lists, for each guard made of tracing programs, the ways to get it, narrowest first. A way works if all
// its programs load.
func tracingGuards() map[string][][]hook {
	syscall := map[string]string{"amd64": "__x64_sys_splice", "arm64": "__arm64_sys_splice"}[runtime.GOARCH]
	bySyscall := hook{guardProgRefuseSplice, syscall}
	byFile := hook{guardProgRefuseSpliceFile, "security_file_permission"}
	// By io_uring a splice makes no system call of its own. A kernel may have no io_uring.
	enter, leave := hook{guardProgEnterRingSplice, "io_splice"}, hook{guardProgLeaveRingSplice, "io_splice"}
	return map[string][][]hook{
		GuardSplice: {
			{bySyscall, byFile, enter, leave},
			{byFile, enter, leave},
			{bySyscall},
			{byFile},
		},
		GuardObserve: {{
			{guardProgObserveReceive, "security_socket_recvmsg"},
			{guardProgObserveSend, "security_socket_sendmsg"},
			{guardProgAnswerReceive, "security_socket_recvmsg"},
			{guardProgAnswerSend, "security_socket_sendmsg"},
			{guardProgRefuseMapping, "security_socket_getsockopt"},
		}},
	}
}

// loadGuards loads and attaches what this kernel allows, of those not in without, and pins it below dir. A guard that
// does not load is no error: whether acceleration may run without it is for the caller to decide. It returns what the
// observers are there for, as the config map holds it.
func (o *loaded) loadGuards(dir string, without []string) (learn bpfLearn, err error) {
	spec, err := loadGuard()
	if err != nil {
		return 0, fmt.Errorf("read embedded guards: %w", err)
	}
	maps := map[string]*ebpf.Map{guardMapStates: o.States, guardMapAvoid: o.Avoid, guardMapConfig: o.bpfMaps.Config,
		guardMapFlows: o.Flows, guardMapSplicing: o.Splicing}
	pins := filepath.Join(dir, "guards")
	if err := os.Mkdir(pins, 0o700); err != nil {
		return 0, fmt.Errorf("make directory of guards: %w", err)
	}
	refused := map[string]error{}
	for _, name := range without {
		refused[name] = errors.New(switchedOff)
	}
	for name, ways := range tracingGuards() {
		if refused[name] == nil {
			if refused[name], err = attachFirst(spec, maps, ways, filepath.Join(pins, name)); err != nil {
				return 0, err
			}
		}
	}
	if refused[GuardOptions] == nil {
		refused[GuardOptions] = o.loadOptionsGuard(spec, maps)
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
		learn |= bpfLearnLEARN_READERS
	}
	if refused[GuardBlocking] == nil {
		learn |= bpfLearnLEARN_BLOCKING
	}
	return learn, nil
}

// pinReason keeps why what would be pinned there does not run.
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

// attachFirst pins the links of the first way that works as <pin>-<function>-<program>. Of a guard that the kernel refuses it
// returns why; err is of pinning only.
func attachFirst(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, ways [][]hook, pin string) (refused, err error) {
	for _, way := range ways {
		links, err := attachAll(spec, maps, way)
		if err != nil {
			// Each way's own refusal counts: the first may lack its function, the second a right.
			if refused != nil {
				err = fmt.Errorf("%w; %w", refused, err)
			}
			refused = err
			continue
		}
		var errs []error
		for i, l := range links {
			errs = append(errs, l.Pin(pin+"-"+way[i].pinName()), l.Close())
		}
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("pin guard: %w", err)
		}
		return nil, nil
	}
	return refused, nil
}

func attachAll(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, way []hook) (links []link.Link, err error) {
	defer func() {
		if err != nil {
			for _, l := range links {
				l.Close()
			}
		}
	}()
	for _, h := range way {
		l, err := attachTracing(spec, maps, h)
		if err != nil {
			return links, err
		}
		links = append(links, l)
	}
	return links, nil
}

func attachTracing(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, h hook) (link.Link, error) {
	prog, err := loadOne(spec, maps, h)
	if err != nil {
		return nil, fmt.Errorf("load guard for %s: %w", h.function, err)
	}
	defer prog.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach %s to %s: %w", h.program, h.function, err)
	}
	return l, nil
}

// loadOne loads one program of the spec with the maps that the data path uses.
func loadOne(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, h hook) (*ebpf.Program, error) {
	prog := spec.Programs[h.program].Copy()
	if h.function != "" {
		prog.AttachTo = h.function
	}
	one := &ebpf.CollectionSpec{
		Maps:      map[string]*ebpf.MapSpec{},
		Programs:  map[string]*ebpf.ProgramSpec{h.program: prog},
		Types:     spec.Types,
		ByteOrder: spec.ByteOrder,
	}
	replace := map[string]*ebpf.Map{}
	for name, m := range maps {
		one.Maps[name], replace[name] = spec.Maps[name].Copy(), m
		one.Maps[name].MaxEntries = m.MaxEntries() // of the settings, not of the source
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: replace})
	// The library guesses at memlock limits then, which Load has lifted.
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
func (o *loaded) loadOptionsGuard(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) error {
	programs := map[string]*ebpf.Program{}
	for _, g := range cgroupGuards {
		prog, err := loadOne(spec, maps, hook{program: g.program})
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

// GuardStates tells of each guard whether it runs.
func (d *Datapath) GuardStates() ([]GuardState, error) {
	entries, err := os.ReadDir(filepath.Join(d.layout.state(), "guards"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pins of guards: %w", err)
	}
	pinned := map[string]bool{}
	for _, e := range entries {
		pinned[e.Name()] = true
	}
	states := make([]GuardState, 0, len(Guards))
	for _, name := range Guards {
		s := GuardState{Name: name, Why: d.whyNoGuard(name)}
		if h := d.hookOf(name, pinned); h != "" {
			s = GuardState{Name: name, Active: true, Hook: h}
		}
		states = append(states, s)
	}
	return states, nil
}

// hookOf is empty for a guard that does not run.
func (d *Datapath) hookOf(name string, pinned map[string]bool) string {
	pinName := name
	switch name {
	case GuardOptions:
		if exists(d.layout.pin(guardProgRefuseOption)) {
			return optionsHook
		}
	case GuardBlocking:
		if pinned[name+reasonSuffix] {
			return ""
		}
		pinName = GuardObserve // whose programs do it
	}
	for _, way := range tracingGuards()[pinName] {
		if pinned[pinName+"-"+way[0].pinName()] {
			return way[0].function
		}
	}
	return ""
}

func (d *Datapath) whyNoGuard(name string) string {
	return readReason(filepath.Join(d.layout.state(), "guards", name))
}

// readReason is what pinReason has kept.
func readReason(pin string) string {
	reason, err := os.Readlink(pin + reasonSuffix)
	if err != nil {
		return "no reason is recorded"
	}
	return reason
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
