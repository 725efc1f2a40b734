// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// loadDescriptors is how many file descriptors a load has open at most, with the probes of package hazard,
// and some more.
const loadDescriptors = 64

// haveDescriptors returns an error that is EMFILE or ENFILE where fewer than n file descriptors can be had.
// It is asked before a load: when the BPF library runs out of them while it finds out what the kernel can do,
// it takes that for an answer of the kernel, and the load fails with an error about something else.
func haveDescriptors(n int) error {
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	had := []int{null}
	for err == nil && len(had) < n {
		var fd int
		if fd, err = unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			had = append(had, fd)
		}
	}
	for _, fd := range had {
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("a load needs %d file descriptors: %w", n, err)
	}
	return nil
}
