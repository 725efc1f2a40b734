// SPDX-License-Identifier: Apache-2.0

package bpf

// Pinned are the object files whose programs stay loaded when the process that has loaded them ends. The
// programs that evict sockets are loaded for one run and are not among them.
func Pinned() [][]byte {
	return [][]byte{_SockmapBytes, _GuardBytes, _ListBytes, _HostBytes}
}
