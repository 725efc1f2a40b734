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
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// Names of the guards, which hazard.Guards describes.
const (
	GuardSplice   = hazard.GuardSplice
	GuardObserve  = hazard.GuardObserve
	GuardBlocking = hazard.GuardBlocking
	GuardOptions  = hazard.GuardOptions
	GuardFionread = hazard.GuardFionread
)

// Guards lists the names of all guards. Nobody writes to it.
var Guards = hazard.GuardNames()

// GuardState says whether a guard runs, and if not, why.
type GuardState struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	// Resting: it is active and has no link, as no container takes part. It has one before the first does.
	Resting bool   `json:"resting,omitempty"`
	Hook    string `json:"hook,omitempty"` // where it hooks in
	Why     string `json:"why,omitempty"`  // it does not: what the kernel said, switchedOff, or needless
}

// SwitchedOff tells a guard that was not wanted from one that this kernel refused.
func (s GuardState) SwitchedOff() bool { return s.Why == switchedOff }

// Needless tells a guard that is not loaded because no probe has found the fault that it cures.
func (s GuardState) Needless() bool { return s.Why == needless }

const (
	switchedOff = "switched off by configuration"
	needless    = "not needed: no probe has found what this guard cures"
)

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
	{bpf.GuardProgRefuseOption, "-options", ebpf.AttachCGroupSetsockopt},
	{bpf.GuardProgCorrectAnswer, "-info", ebpf.AttachCGroupGetsockopt},
}

// hook is one program of a guard and the function that it hooks.
type hook struct{ program, function string }

// lsmPrefix begins the names of functions that hold LSM programs. They are hooked narrower: one program both looks up socket
// storage and answers.
const lsmPrefix = "bpf_lsm_"

// pinName tells programs of a guard apart that hook the same function. In it stands the function, where GuardStates looks
// for it.
func (h hook) pinName() string { return h.function + "-" + h.program }

// tracingGuards lists, for each guard made of tracing programs, the ways to get it, narrowest first. A way works if all
// its programs load.
func tracingGuards() map[string][][]hook {
	syscall := map[string]string{"amd64": "__x64_sys_splice", "arm64": "__arm64_sys_splice"}[runtime.GOARCH]
	bySyscall := hook{bpf.GuardProgRefuseSplice, syscall}
	byFile := hook{bpf.GuardProgRefuseSpliceFile, "security_file_permission"}
	byLSM := hook{bpf.GuardProgRefuseSpliceLsm, lsmPrefix + "file_permission"}
	// By io_uring a splice makes no system call of its own. A kernel may have no io_uring.
	enter, leave := hook{bpf.GuardProgEnterRingSplice, "io_splice"}, hook{bpf.GuardProgLeaveRingSplice, "io_splice"}
	return map[string][][]hook{
		GuardSplice: {
			{byLSM, enter, leave},
			{bySyscall, byFile, enter, leave},
			{byFile, enter, leave},
			{bySyscall},
			{byFile},
		},
		GuardObserve: {{
			{bpf.GuardProgReceive, lsmPrefix + "socket_recvmsg"},
			{bpf.GuardProgSend, lsmPrefix + "socket_sendmsg"},
			{bpf.GuardProgRefuseMapping, "security_socket_getsockopt"},
		}, {
			{bpf.GuardProgObserveReceive, "security_socket_recvmsg"},
			{bpf.GuardProgObserveSend, "security_socket_sendmsg"},
			{bpf.GuardProgAnswerReceive, "security_socket_recvmsg"},
			{bpf.GuardProgAnswerSend, "security_socket_sendmsg"},
			{bpf.GuardProgRefuseMapping, "security_socket_getsockopt"},
		}},
		// Both families have a function of their own. A kernel may have no IPv6.
		GuardFionread: {
			{{bpf.GuardProgCorrectInq, "inet_ioctl"}, {bpf.GuardProgCorrectInq, "inet6_ioctl"}},
			{{bpf.GuardProgCorrectInq, "inet_ioctl"}},
		},
	}
}

// GuardStates tells of each guard whether it runs.
func (d *Datapath) GuardStates() (states []GuardState, err error) {
	defer spellError(&err)
	return guardStates(d.layout.state())
}

// guardStates tells it of what is pinned below a directory: in force, or still being built.
func guardStates(dir string) ([]GuardState, error) {
	entries, err := os.ReadDir(filepath.Join(dir, guardsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pins of guards: %w", err)
	}
	pinned := map[string]bool{}
	for _, e := range entries {
		pinned[e.Name()] = true
	}
	_, rest, err := restingGuards(dir)
	if err != nil {
		return nil, err
	}
	states := make([]GuardState, 0, len(Guards))
	for _, name := range Guards {
		s := GuardState{Name: name, Why: readReason(filepath.Join(dir, guardsDir, name))}
		if h, linked := hookOf(dir, name, pinned); h != "" {
			s = GuardState{Name: name, Active: true, Hook: h, Resting: rest && !linked}
		}
		states = append(states, s)
	}
	return states, nil
}

// hookOf is empty for a guard that does not run. linked is false for one that rests.
func hookOf(dir, name string, pinned map[string]bool) (function string, linked bool) {
	pinName := name
	switch name {
	case GuardOptions:
		if exists(filepath.Join(dir, bpf.GuardProgRefuseOption)) {
			return optionsHook, true
		}
	case GuardBlocking:
		if pinned[name+reasonSuffix] {
			return "", false
		}
		pinName = GuardObserve // whose programs do it
	}
	for _, way := range tracingGuards()[pinName] {
		if pin := pinName + "-" + way[0].pinName(); pinned[pin] || pinned[pin+programSuffix] {
			return way[0].function, pinned[pin]
		}
	}
	return "", false
}

// readReason is what pinReason has kept.
func readReason(pin string) string {
	reason, err := os.Readlink(pin + reasonSuffix)
	if err != nil {
		return "no reason is recorded"
	}
	return reason
}
