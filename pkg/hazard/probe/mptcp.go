// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mptcpFixed is the first release of each stable line in which a sockmap refuses MPTCP subflows
// (fbade4bd08ba).
var mptcpFixed = []struct{ major, minor, patch int }{{5, 15, 197}, {6, 1, 159}, {6, 6, 118}, {6, 12, 60},
	{6, 18, 0}}

// probeMPTCP only reads the version of the kernel: a test of this hazard could crash a kernel that has it.
func probeMPTCP() (outcome, error) {
	enabled, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
	if err != nil || strings.TrimSpace(string(enabled)) == "0" {
		return fine("no MPTCP on this kernel"), nil
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return outcome{}, fmt.Errorf("ask for the kernel's name: %w", err)
	}
	kernel := stableVersion(unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Version[:]))
	if mptcpIsSafe(kernel) {
		return fine("%s refuses MPTCP subflows (by its version)", kernel), nil
	}
	return bad("%s may take MPTCP subflows (by its version)", kernel), nil
}

// stableVersion is the version of the stable line that a kernel is made from. Debian's release keeps the
// patch number 0 for as long as modules fit (6.1.0-56-amd64); the build's name then has the real one (…
// Debian 6.1.192-2 …).
func stableVersion(release, build string) string {
	if _, debian, ok := strings.Cut(build, " Debian "); ok {
		return debian
	}
	return release
}

func mptcpIsSafe(kernel string) bool {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(kernel, "%d.%d.%d", &major, &minor, &patch); n < 2 {
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
