// SPDX-License-Identifier: Apache-2.0

// Package datapath owns every BPF object of the project: it loads and pins them, attaches them to cgroups,
// and reads and writes their maps. It is the only importer of cilium/ebpf.
//
// # State
//
// Everything lives below one directory on bpffs, by default /sys/fs/bpf/sockmap, and dies with the node:
//
//	<dir>/v3/config ... sockets     one pin for each map and program, named as in bpf/maps.h
//	<dir>/v3/guards/                links of tracing guards, and why others do not run
//	<dir>/v3/links/cgroup-<id>      the link of one cgroup, for registered network namespaces only
//	<dir>/v3/links/manual-<id>      the link of a cgroup of sockmapctl attach: every namespace
//	<dir>/v3/programs               a symbolic link whose target is the digest of the programs that are loaded
//	<dir>/v0-draining/              state of an older ABI whose place v1 has taken, until its last flow ends
//	<dir>/new-<pid>                 being built by Load, Upgrade or Replace, or left by a killed process
//
// The number in v2 is the ABI of bpf/abi.h. State of another ABI is refused, never reinterpreted: Replace
// converts it to new state by a Conversion. These names, and the first two words of config, are the same for
// every ABI.
//
// # Locking
//
// Functions that change state expect the caller to hold pkg/lock's lock on <dir>. Reading needs none: each
// pin is published complete, by rename. A pin that is replaced is renamed over, so its name is never missing.
//
// # References
//
// A Datapath holds file descriptors only; closing it changes nothing in the kernel. Pins keep maps, programs
// and links alive. A socket in the sockhash keeps the verdict that was attached when it entered, for its
// whole life: that is why Unload turns the kill switch on before it removes anything, and why an Upgrade
// affects new connections only.
package datapath
