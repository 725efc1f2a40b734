// SPDX-License-Identifier: Apache-2.0

// Package lab makes nodes to try sockmap on: a [Node] is a network namespace
// that stands for a host's, a [Pod] is a network namespace and a cgroup that
// the real CNI plugins were ADDed to through libcni, and a [Host] is a machine
// off the node. Traffic between them takes the way that it takes in
// production: veth, bridge, routing, netfilter.
//
// # Ownership
//
// Everything that a node makes carries its ID, a directory below /run, and goes
// with [Node.Close]: pods, processes, namespaces, mounts, cgroups, files. Only
// sockets belong to whoever asked for them; one that is left open keeps its
// network namespace alive after that. [Residue] lists what a killed process has
// left, [Reap] removes it.
//
// # Where a socket belongs
//
// A socket belongs for life to the network namespace of the thread and to the
// cgroup of the process that made it, and what a listener accepts belongs
// where the listener does. Pod.Do therefore moves this whole process into the
// pod's cgroup for as long as its function runs, and sockets of many pods can
// be held by one process. [Place.Do] says what that implies.
//
// The package needs root and a cgroup2 mount, writable, anywhere.
package lab
