// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// Bounds of each wait of a probe for an event. The event comes immediately or never, so the first bound is
// long enough for most machines; the second is for a machine that was too busy.
const (
	firstWait   = 500 * time.Millisecond
	confirmWait = 3 * firstWait
)

// wait is the current bound. All probes share it, because one process runs them, one after the other.
var wait = firstWait

// confirmed runs a probe. If the probe finds the hazard, confirmed runs it again with more time, and returns
// the second result: a fault of the kernel occurs again, a message that was late does not.
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
