// SPDX-License-Identifier: Apache-2.0

// Package traffic makes TCP traffic whose every byte is known in advance, and checks it on arrival. It
// detects bytes that are lost, repeated, swapped or from a different stream, and the error names their
// origin.
//
// The package knows nothing about network namespaces. It works on the net.Conn and net.Listener of the
// caller, sets no socket options and does not close them unless documented. Every function ends when its
// context does; a context without a deadline gets [DefaultTimeout].
//
// Traffic in this process is for correctness. Latency is measured by the program in test/lab/cmd/traffic,
// whose blocking system calls on one pinned thread exclude Go's scheduler from the measurement. [Hello] and
// the Report types are shared by both sides of that program and by the readers of its output.
package traffic
