// SPDX-License-Identifier: Apache-2.0

package top

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// Sample is the state of the node at one time.
type Sample struct {
	At        time.Time
	Err       error
	WayOut    string // what to do about err; may be empty
	Filter    string // as flags; empty: Flows are all of the node
	Disabled  bool
	Max       uint32 // sockets
	Flows     []live.Flow
	Fallbacks map[string]uint64 // by reason, since loading
}
