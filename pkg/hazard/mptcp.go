// SPDX-License-Identifier: Apache-2.0

package hazard

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mptcpFixed is the first release of each stable line in which a sockmap refuses MPTCP subflows (fbade4bd08ba).
var mptcpFixed = []struct{ major, minor, patch int }{{5, 15, 197}, {6, 1, 159}, {6, 6, 118}, {6, 12, 60}, {6, 18, 0}}

// The one hazard that is read off the version: a kernel that has it can crash when it is tried.
func probeMPTCP() (outcome, error) {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	if err != nil || strings.TrimSpace(string(enabled)) == "0" {
		return fine("no MPTCP on this kernel"), nil
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return outcome{}, fmt.Errorf("ask for the kernel's name: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	if mptcpIsSafe(release) {
		return fine("%s refuses MPTCP subflows (by its version)", release), nil
	}
	return bad("%s may take MPTCP subflows (by its version)", release), nil
}

func mptcpIsSafe(release string) bool {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(release, "%d.%d.%d", &major, &minor, &patch); n < 2 {
		return false
	}
	for _, fixed := range mptcpFixed {
		if major == fixed.major && minor == fixed.minor {
			return patch >= fixed.patch
		}
	}
	newest := mptcpFixed[len(mptcpFixed)-1]
	return major > newest.major || major == newest.major && minor > newest.minor
}
