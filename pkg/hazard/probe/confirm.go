// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// Bounds of each wait of a probe for an event that comes at once or never: long enough for a busy machine,
// and longer for one that was too slow for that.
const (
	firstWait   = 500 * time.Millisecond
	confirmWait = 3 * firstWait
)

// wait is the bound that holds now. One process runs the probes, one after the other.
var wait = firstWait

// confirmed runs a probe, and if it finds the hazard runs it again with more time. The second result counts:
// a fault of the kernel repeats, and a message that came late does not.
func confirmed(probe func() (outcome, error)) (outcome, error) {
	first, err := probe()
	if err != nil || !first.present {
		return first, err
	}
	wait = confirmWait
	defer func() { wait = firstWait }()
	o, err := probe()
	if err == nil && !o.present {
		o.seen += " (at first: " + first.seen + ")"
	}
	return o, err
}
