// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// usual is Linux's default congestion control.
const usual = "cubic"

// usualCongestionControl makes the routes of the calling thread's network namespace use the default
// congestion control, regardless of this machine's choice. One that paces (BBR) makes plain TCP between
// containers slower than it is elsewhere, and then redirection looks better than it is. The choice is made by
// routes, because a namespace may not choose a congestion control that the machine does not allow to
// everybody.
func usualCongestionControl() error {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return fmt.Errorf("list the available congestion controls: %w", err)
	}
	if !slices.Contains(strings.Fields(string(b)), usual) {
		return nil
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		r.Congctl = usual
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("set congestion control of route %s: %w", r, err)
		}
	}
	return nil
}
