// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// loadDescriptors is how many file descriptors a load has open at most, with the probes of package hazard,
// and some more.
const loadDescriptors = 64

// haveDescriptors returns an error that wraps EMFILE or ENFILE if fewer than n file descriptors are
// available. It is called before a load: if the BPF library runs out of them while it tests features of the
// kernel, it takes that for a missing feature, and the load fails with a misleading error.
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
