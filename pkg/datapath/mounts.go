// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountsIn lists what a mountinfo file of /proc says about file systems of a kind, in its order.
func mountsIn(file, kind string) ([]*mountinfo.Info, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter(kind))
}

// deviceOf is the device number of a mounted file system, as stat(2) has it.
func deviceOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }
