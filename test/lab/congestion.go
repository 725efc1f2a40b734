// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// usual is Linux' own congestion control.
const usual = "cubic"

// usualCongestionControl makes the routes of the calling thread's network namespace ask for it, whatever this machine has
// chosen: one that paces (BBR) makes plain TCP between containers slower than it is elsewhere, and what is compared with it
// look better. By routes, as a namespace may not choose for itself what the machine does not allow everybody.
func usualCongestionControl() error {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return fmt.Errorf("read what congestion control there is: %w", err)
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
