// SPDX-License-Identifier: Apache-2.0

// Package place makes the ends between which the conformance cases run: sockets and processes that belong to
// a network namespace and a cgroup, once on plain TCP and once accelerated, and otherwise the same.
//
// A socket belongs for life to the namespace and the cgroup of the process that called socket(2), even if
// others use it later. Therefore each end has a child process, a [Maker], that only makes sockets and passes
// them on, so that one process can hold sockets of many ends without changing its own namespace or cgroup.
//
// A [Site] is what all places of one kind share (a loaded data path, a node of package lab). A [Place] has a
// client end and a server end, and is used by one case at a time.
package place
