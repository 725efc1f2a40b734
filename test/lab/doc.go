// SPDX-License-Identifier: Apache-2.0

// Package lab makes nodes for tests of sockmap. A [Node] is a network namespace
// in the role of a host's. A [Pod] is a network namespace and a cgroup for which
// libcni called ADD of the real CNI plugins. A [Host] is a machine
// off the node. Traffic between them passes what it passes in
// production: veth, bridge, routing, netfilter.
//
// # Ownership
//
// Everything that a node makes carries the node's ID and is removed
// by [Node.Close]: its directory below /run, pods, processes, namespaces, mounts, cgroups, files. Only
// sockets belong to the caller who asked for them; a socket left open keeps its
// network namespace alive after that. [Residue] lists what a killed process
// left behind, and [Reap] removes it.
//
// # To which pod a socket belongs
//
// A socket belongs for life to the network namespace of the thread and to the
// cgroup of the process that made it. An accepted socket belongs
// where its listener does. Therefore Pod.Do moves this whole process into the
// pod's cgroup while its function runs, so one process can hold sockets of many
// pods. [Place.Do] documents the consequences.
//
// The package needs root and a cgroup2 mount, writable, anywhere.
package lab
