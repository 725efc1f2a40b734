// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint is one line of mountinfo: where, its optional fields (shared:N, master:N), the kind of file system, which of its
// directories is mounted there, and its device number, as stat has it.
type mountPoint struct {
	path, optional, kind, root string
	dev                        uint64
}

// mountsIn lists what a mountinfo file of /proc says, in its order.
func mountsIn(mountinfo string) (all []mountPoint, err error) {
	info, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(info)) {
		before, after, _ := strings.Cut(line, " - ")
		w := strings.Fields(before)
		if len(w) < 6 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		all = append(all, mountPoint{unescapeMount.Replace(w[4]), strings.Join(w[6:], " "), kind, unescapeMount.Replace(w[3]), deviceOf(w[2])})
	}
	return all, nil
}

// unescapeMount is for what the kernel escapes in mountinfo.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// deviceOf reads MAJOR:MINOR.
func deviceOf(text string) uint64 {
	major, minor, _ := strings.Cut(text, ":")
	high, _ := strconv.ParseUint(major, 10, 32)
	low, _ := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(high), uint32(low))
}
