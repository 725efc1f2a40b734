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

// Guards lists the names of all guards. It is never changed.
var Guards = hazard.GuardNames()

// GuardState says whether a guard runs, and if not, why.
type GuardState struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	// Resting: it is active but not attached, because no container is accelerated. It is attached before the
	// first one is.
	Resting bool   `json:"resting,omitempty"`
	Hook    string `json:"hook,omitempty"` // where it hooks in
	Why     string `json:"why,omitempty"`  // why it does not run: the kernel's error, switchedOff, or needless
}

// SwitchedOff reports whether the configuration left the guard out, and not the kernel.
func (s GuardState) SwitchedOff() bool { return s.Why == switchedOff }

// Needless reports whether the guard was not loaded because no probe found the hazard that it cures.
func (s GuardState) Needless() bool { return s.Why == needless }

const (
	switchedOff = "switched off by configuration"
	needless    = "not needed: no probe has found what this guard cures"
)

// reasonSuffix follows the guard's name if the guard does not run. bpffs holds no files but symbolic links,
// whose target may be any text: here the reason.
const reasonSuffix = "-off"

// maxReason is about two lines. A verifier log can be much longer.
const maxReason = 200

// optionsHook is where the guard options runs, once for each cgroup.
const optionsHook = "cgroup/setsockopt"

// cgroupGuards are the programs of GuardOptions, which are attached to each cgroup beside sock_ops, with the
// suffixes of their links' pins.
var cgroupGuards = [...]struct {
	program, suffix string
	attach          ebpf.AttachType
}{
	{bpf.GuardProgRefuseOption, "-options", ebpf.AttachCGroupSetsockopt},
	{bpf.GuardProgCorrectAnswer, "-info", ebpf.AttachCGroupGetsockopt},
}

// hook is one program of a guard and the function that it hooks.
type hook struct{ program, function string }

// lsmPrefix is the prefix of functions that LSM programs are attached to. One LSM program both looks up
// socket storage and returns the error.
const lsmPrefix = "bpf_lsm_"

// pinName is unique also if two programs of a guard hook the same function. GuardStates reads the function
// from it.
func (h hook) pinName() string { return h.function + "-" + h.program }

// tracingGuards lists the ways to attach each guard of tracing programs, best first. A way works if all its
// programs load.
func tracingGuards() map[string][][]hook {
	syscall := map[string]string{"amd64": "__x64_sys_splice", "arm64": "__arm64_sys_splice"}[runtime.GOARCH]
	bySyscall := hook{bpf.GuardProgRefuseSplice, syscall}
	byFile := hook{bpf.GuardProgRefuseSpliceFile, "security_file_permission"}
	byLSM := hook{bpf.GuardProgRefuseSpliceLsm, lsmPrefix + "file_permission"}
	// A splice by io_uring is no system call. A kernel may have no io_uring.
	enter := hook{bpf.GuardProgEnterRingSplice, "io_splice"}
	leave := hook{bpf.GuardProgLeaveRingSplice, "io_splice"}
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

// GuardStates returns the state of each guard.
func (d *Datapath) GuardStates() (states []GuardState, err error) {
	defer spellError(&err)
	return guardStates(d.layout.state())
}

// guardStates does the same for any state directory, in force or under construction.
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

// hookOf returns the function that a guard hooks; empty if it does not run. linked is false if it rests.
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

// readReason returns what pinReason has written.
func readReason(pin string) string {
	reason, err := os.Readlink(pin + reasonSuffix)
	if err != nil {
		return "no reason is recorded"
	}
	return reason
}
