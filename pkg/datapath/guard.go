// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// The guards, by the names that configuration and status use. Each makes redirected sockets behave where the kernel's
// own code for them does not; see bpf/guard.bpf.c.
const (
	GuardSplice  = "splice"  // splice(2) out of a redirected socket: EINVAL instead of nothing or a hang
	GuardObserve = "observe" // learn the flags of receive and send before redirecting
	GuardOptions = "options" // refuse SO_ZEROCOPY, TCP_ULP and TCP_INQ once a socket is paired
)

// Guards lists all of them.
var Guards = [...]string{GuardSplice, GuardObserve, GuardOptions}

// GuardState says whether a guard runs, and if not, why.
type GuardState struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Hook   string `json:"hook,omitempty"` // where it hooks in
	Why    string `json:"why,omitempty"`  // it does not
}

// hook is one program of a guard and the function that it hooks.
type hook struct{ program, function string }

// tracingGuards lists, for each guard made of tracing programs, the ways to get it, narrowest first. A way works if all
// its programs load.
func tracingGuards() map[string][][]hook {
	syscall := map[string]string{"amd64": "__x64_sys_splice", "arm64": "__arm64_sys_splice"}[runtime.GOARCH]
	return map[string][][]hook{
		GuardSplice: {
			{{guardProgRefuseSplice, syscall}},
			{{guardProgRefuseSpliceFile, "security_file_permission"}},
		},
		GuardObserve: {{
			{guardProgObserveReceive, "security_socket_recvmsg"},
			{guardProgObserveSend, "security_socket_sendmsg"},
		}},
	}
}

// loadGuards loads and attaches what this kernel allows, of those not in without, and pins it below dir. A guard that
// does not load is no error: whether acceleration may run without it is for the caller to decide. It reports whether
// the observers run.
func (o *loaded) loadGuards(dir string, without []string) (observed bool, err error) {
	spec, err := loadGuard()
	if err != nil {
		return false, fmt.Errorf("read embedded guards: %w", err)
	}
	off := map[string]bool{}
	for _, name := range without {
		off[name] = true
	}
	maps := map[string]*ebpf.Map{guardMapStates: o.States, guardMapAvoid: o.Avoid}
	pins := filepath.Join(dir, "guards")
	if err := os.Mkdir(pins, 0o700); err != nil {
		return false, fmt.Errorf("make directory of guards: %w", err)
	}
	for name, ways := range tracingGuards() {
		if off[name] {
			continue
		}
		active, err := attachFirst(spec, maps, ways, filepath.Join(pins, name))
		if err != nil {
			return false, err
		}
		observed = observed || active && name == GuardObserve
	}
	if off[GuardOptions] {
		return observed, nil
	}
	o.refuseOption, err = pinOptionsGuard(spec, maps, filepath.Join(dir, guardProgRefuseOption))
	return observed, err
}

// attachFirst pins the links of the first way that works as <pin>-<function>. It reports whether one did; errors are of
// pinning only.
func attachFirst(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, ways [][]hook, pin string) (bool, error) {
	for _, way := range ways {
		links, err := attachAll(spec, maps, way)
		if err != nil {
			continue
		}
		var errs []error
		for i, l := range links {
			errs = append(errs, l.Pin(pin+"-"+way[i].function), l.Close())
		}
		if err := errors.Join(errs...); err != nil {
			return false, fmt.Errorf("pin guard: %w", err)
		}
		return true, nil
	}
	return false, nil
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
		return nil, err
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
	}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, fmt.Errorf("load guard %s: %w", h.program, err)
	}
	defer coll.Close()
	return coll.DetachProgram(h.program), nil
}

// pinOptionsGuard pins the program that Attach links to each cgroup beside sock_ops. It is nil where the kernel refuses
// it. The caller closes it.
func pinOptionsGuard(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, pin string) (*ebpf.Program, error) {
	prog, err := loadOne(spec, maps, hook{program: guardProgRefuseOption})
	if err != nil {
		return nil, nil
	}
	if err := prog.Pin(pin); err != nil {
		return nil, errors.Join(fmt.Errorf("pin guard: %w", err), prog.Close())
	}
	return prog, nil
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
		s := GuardState{Name: name, Why: "this kernel refused it, or it was switched off"}
		for _, way := range tracingGuards()[name] {
			if hooked := way[len(way)-1].function; pinned[name+"-"+hooked] {
				s = GuardState{Name: name, Active: true, Hook: hooked}
				break
			}
		}
		if name == GuardOptions && exists(d.layout.pin(guardProgRefuseOption)) {
			s = GuardState{Name: name, Active: true, Hook: "cgroup/setsockopt"}
		}
		states = append(states, s)
	}
	return states, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
