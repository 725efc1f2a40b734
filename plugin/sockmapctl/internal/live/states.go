// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// tcpStates are the names of include/net/tcp_states.h, as ss has them.
var tcpStates = strings.Fields("- ESTAB SYN-SENT SYN-RECV FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT CLOSED " +
	"CLOSE-WAIT LAST-ACK LISTEN CLOSING NEW-SYN")

func TCPStateName(state uint8) string {
	if int(state) < len(tcpStates) {
		return tcpStates[state]
	}
	return strconv.Itoa(int(state))
}

func Names[T fmt.Stringer](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return out
}

func ModeNames() []string { return Names(datapath.Modes()) }

func RoleNames() []string { return Names(datapath.Roles()) }

func ReasonNames() []string { return Names(datapath.Reasons()) }

// Ranked sorts by count, the largest first.
func Ranked[K ~string](counts map[K]uint64) []Count {
	views := []Count{}
	for reason, n := range counts {
		views = append(views, Count{string(reason), n})
	}
	slices.SortFunc(views, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return views
}

type Count struct {
	Reason string `json:"reason" doc:"reason, see METRICS.md"`
	Count  uint64 `json:"count" doc:"how often it occurred"`
}

var rolePassive = datapath.RolePassive.String()
