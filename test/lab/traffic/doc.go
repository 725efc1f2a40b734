// SPDX-License-Identifier: Apache-2.0

// Package traffic makes TCP traffic whose every byte is known beforehand, and
// checks it on arrival. A byte that is lost, repeated, swapped with another or
// out of a different stream is found, and the error tells where it came from.
//
// The package knows nothing about network namespaces: it works on the
// net.Conn and net.Listener that the caller hands in, sets no socket options
// and leaves both open unless it says otherwise. Every function ends when its
// context does; a context without a deadline is given [DefaultTimeout].
//
// In-process traffic is for correctness. Latency is measured by the program
// in test/lab/cmd/traffic, whose blocking system calls on one pinned thread
// keep Go's scheduler out of the numbers; [Hello] and the Report types are what
// both sides of that program, and those who read its output, have in common.
package traffic
