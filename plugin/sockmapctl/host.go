// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"golang.org/x/sys/unix"
)

// host has the functions that read this machine. Tests replace them.
type host struct {
	root       bool
	procStatus string
	btf        string
	mount      func() (cgroup.Mount, error)
	strays     func() ([]datapath.Stray, error) // live flows that no pin leads to; nil: nobody looks
	pinned     func() ([]string, error)         // state directories, wherever they are; nil: nobody looks
	// files is the root of /proc and /sys for conntrack helpers; empty: "/".
	files string
}

func thisHost() host {
	return host{
		root:       os.Geteuid() == 0,
		procStatus: "/proc/self/status",
		btf:        "/sys/kernel/btf/vmlinux",
		mount:      cgroup.FindMount,
		strays:     datapath.FindStrays,
		pinned:     datapath.FindPinned,
	}
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
