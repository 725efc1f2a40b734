// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// eagain is the hazard that only a reader with a blocking socket meets.
const eagain = "eagain"

// risks lists the differences from TCP that a program may see while the connection is redirected: hazards
// that were accepted, and features that the guard observe would keep on TCP if it ran. It is empty if the
// connection uses TCP or its path is unknown.
func risks(f *Facts, o Outcome) []string {
	all := []string{}
	if o == ByTCP || o == Unknown || f.Problem != "" {
		return all
	}
	for _, h := range hazard.Table {
		if !slices.Contains(f.Severe, h.Name) {
			continue
		}
		if h.Name != eagain {
			all = append(all, fmt.Sprintf("hazard %s is open: %s", h.Name, h.Meaning))
			continue
		}
		switch {
		case f.Reader == nil:
			all = append(all, fmt.Sprintf("hazard %s is open: %s; a reader that polls, with O_NONBLOCK, does not "+
				"meet it",
				h.Name, h.Meaning))
		case !f.Reader.NonBlocking:
			all = append(all, fmt.Sprintf("hazard %s is open, and the reader's socket is blocking: %s", h.Name,
				h.Meaning))
		}
	}
	if !f.Config.Learn {
		all = append(all, "no guard observes readers here: MSG_WAITALL, MSG_TRUNC and MSG_OOB do not work as "+
			"with TCP")
	}
	return all
}
