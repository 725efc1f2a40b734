// SPDX-License-Identifier: Apache-2.0

// Package place makes the ends between which the conformance cases run: sockets
// and processes that belong to a network namespace and a cgroup, once on plain
// TCP and once accelerated, and otherwise alike.
//
// A socket belongs for life to the namespace and the cgroup of the process that
// called socket(2), whoever uses it later. Each end therefore has a child
// process, a [Maker], that does nothing but make sockets and pass them on, so
// that one process can hold sockets of many ends without ever moving itself.
//
// A [Site] is what all places of one kind share (a loaded data path, a node of
// package lab); a [Place] is one client end and one server end, used by one case
// at a time.
package place
