// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// From linux/bpf.h. cilium/ebpf does the same query, but does not return the flags.
const (
	objGetInfo     = 15
	progQuery      = 16
	queryEffective = 1
	flagOverride   = 1 // BPF_F_ALLOW_OVERRIDE
	sockOpsAttach  = 3
)

// maxDepth bounds walks from a cgroup to the root, and so the number of programs: each cgroup may hold 64.
const maxDepth = 64

type progQueryAttr struct {
	target, attachType, queryFlags, attachFlags uint32
	progIDs                                     uint64
	count, _                                    uint32
	_                                           [32]uint64 // newer kernels write there regardless of the size
}

// sockOpsOf lists the sock_ops programs that are attached to a cgroup itself, or, effective, all that run
// for its sockets, in the order in which they do. multi: others may be beside those that are attached.
func sockOpsOf(cgroup int, effective bool) (ids []ebpf.ProgramID, flags uint32, err error) {
	for room := 64; ; room *= 2 {
		ids, flags, err = querySockOps(cgroup, effective, room)
		if !errors.Is(err, unix.ENOSPC) || room >= 64*maxDepth {
			return ids, flags, err
		}
	}
}

func querySockOps(cgroup int, effective bool, room int) (ids []ebpf.ProgramID, flags uint32, err error) {
	ids = make([]ebpf.ProgramID, room)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids[0])
	attr := progQueryAttr{
		target: uint32(cgroup), attachType: sockOpsAttach,
		progIDs: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids)),
	}
	if effective {
		attr.queryFlags = queryEffective
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, progQuery, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return nil, 0, fmt.Errorf("list sock_ops programs of cgroup: %w", errno)
	}
	return ids[:attr.count], attr.attachFlags, nil
}

// idOf returns a program's id. cilium/ebpf returns it only together with information that costs more.
func idOf(p *ebpf.Program) (ebpf.ProgramID, error) {
	var info struct {
		kind uint32
		id   ebpf.ProgramID
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&info)
	attr := struct {
		fd, size uint32
		info     uint64
	}{uint32(p.FD()), uint32(unsafe.Sizeof(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	_, _, errno := unix.Syscall(unix.SYS_BPF, objGetInfo, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return 0, fmt.Errorf("ask for id of program: %w", errno)
	}
	return info.id, nil
}

// eachAncestor calls f for a cgroup and all above it that can be seen from here, from below.
func eachAncestor(cgroup *os.File, f func(dir *os.File, id uint64) error) error {
	path := "."
	for range maxDepth {
		fd, err := unix.Openat(int(cgroup.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open cgroup above %s: %w", cgroup.Name(), err)
		}
		dir := os.NewFile(uintptr(fd), cgroup.Name()+"/"+path)
		var fs unix.Statfs_t
		var st unix.Stat_t
		err = errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st))
		if err == nil && fs.Type != unix.CGROUP2_SUPER_MAGIC {
			return dir.Close() // what the hierarchy is mounted in
		}
		if err == nil {
			err = f(dir, st.Ino)
		}
		dir.Close()
		if err != nil {
			return err
		}
		path += "/.."
	}
	return nil
}
