// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Inodes of the first PID and user namespace of every kernel: PROC_PID_INIT_INO and PROC_USER_INIT_INO.
const (
	initialPIDNS  = "pid:[4026531836]"
	initialUserNS = "user:[4026531837]"
)

// seesAllProcesses reports whether this thread sees every process of the kernel and may inspect it, despite
// hidepid: in the first PID and user namespace, with CAP_SYS_ADMIN and CAP_SYS_PTRACE. A security module may
// still hide a process.
func seesAllProcesses() bool {
	const self = "/proc/thread-self/"
	pids, errPIDs := os.Readlink(self + "ns/pid")
	users, errUsers := os.Readlink(self + "ns/user")
	if errors.Join(errPIDs, errUsers) != nil || pids != initialPIDNS || users != initialUserNS {
		return false
	}
	const needed = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE
	held, err := EffectiveCapabilities(self + "status")
	return err == nil && held&needed == needed
}

// EffectiveCapabilities reads the effective capabilities, a bit for each, from a status file of /proc.
func EffectiveCapabilities(procStatus string) (uint64, error) {
	digits, ok, err := field(procStatus, "CapEff:")
	if err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	if !ok {
		return 0, fmt.Errorf("read capabilities: no CapEff in %s", procStatus)
	}
	return strconv.ParseUint(digits, 16, 64)
}

// holders names, by the config maps among ids that it has open, a process other than this one. complete is
// false if some process may not be inspected. The kernel's first process does not count: it loads nothing,
// and some sandboxes hide it even from root.
func holders(ids []ebpf.MapID) (found map[ebpf.MapID]string, complete bool, err error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, false, err
	}
	found, complete = map[ebpf.MapID]string{}, true
	for _, process := range processes {
		pid := filepath.Base(process)
		if pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		held, err := mapsHeld(process)
		if err != nil && !isGone(err) && pid != "1" {
			complete = false
		}
		for _, id := range held {
			if slices.Contains(ids, id) {
				found[id] = processText(pid)
			}
		}
	}
	return found, complete, nil
}

// mapsHeld returns the ids of the maps that a process has open.
func mapsHeld(process string) (ids []ebpf.MapID, err error) {
	files, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(process, "fd", file.Name()))
		if isGone(err) {
			continue
		}
		if err != nil {
			return ids, err
		}
		if target != "anon_inode:bpf-map" {
			continue
		}
		if id, ok := mapOfDescriptor(filepath.Join(process, "fdinfo", file.Name())); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func mapOfDescriptor(fdinfo string) (ebpf.MapID, bool) {
	digits, ok, err := field(fdinfo, "map_id:")
	if err != nil || !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 10, 32)
	return ebpf.MapID(id), err == nil
}

// isGone reports whether err means that the process has ended meanwhile.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func processText(pid string) string {
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}
