// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"strings"
)

// mountPoint is one line of mountinfo: where, its optional fields (shared:N, master:N), and the kind of file system.
type mountPoint struct{ path, optional, kind string }

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
		all = append(all, mountPoint{unescapeMount.Replace(w[4]), strings.Join(w[6:], " "), kind})
	}
	return all, nil
}

// unescapeMount is for what the kernel escapes in mountinfo.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
