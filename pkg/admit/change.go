// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Differences tells in what the record of a sandbox is not what Do would make of it now, each in words; none: it is the same.
// A record that was declined for anything but hazards or the configuration's wish differs in nothing: what was in the way
// then is no matter of configuration.
func (c Call) Differences(record endpoint.Record) ([]string, error) {
	on, source := c.Conf.Accelerate()
	switch wasOff := record.Reason == decline.OptedOut; {
	case !on && wasOff:
		return nil, nil
	case !on:
		return []string{"enabled: true, now false by " + source}, nil
	case wasOff:
		return []string{"enabled: false, now true by " + source}, nil
	}
	held, err := c.held()
	if err != nil {
		return nil, err
	}
	var hazards *endpoint.HazardError
	errors.As(held, &hazards)
	switch {
	case record.Reason == decline.Hazards && held == nil:
		return []string{"acceptHazards: what kept it on TCP is accepted now"}, nil
	case record.Declined != "":
		return nil, nil
	case hazards != nil:
		return []string{fmt.Sprintf("acceptHazards: %s, now not accepted", hazards.Hazards)}, nil
	case record.Policy == nil:
		return nil, nil // of ABI 1, which kept none
	}
	return differencesOf(*record.Policy, policyOf(c.Conf, endpoint.Sandbox{PodNamespace: record.PodNamespace})), nil
}

// held is the HazardError for what is open on this kernel and not accepted.
func (c Call) held() (held, err error) {
	held = c.Node.HeldBack(c.Conf.HazardsAccepted())
	var hazards *endpoint.HazardError
	if held == nil || errors.As(held, &hazards) {
		return held, nil
	}
	return nil, held
}

func differencesOf(was, now datapath.Policy) (all []string) {
	differ := func(key, was, now string) {
		if was != now {
			all = append(all, fmt.Sprintf("%s: %s, now %s", key, was, now))
		}
	}
	differ("peers", was.Peers.String(), now.Peers.String())
	differ("ports.include", PortsText(was.Include, AllPorts), PortsText(now.Include, AllPorts))
	differ("ports.exclude", PortsText(was.Exclude, NoPorts), PortsText(now.Exclude, NoPorts))
	return all
}

// What an empty list of ports means.
const (
	AllPorts = "all"  // of ports.include
	NoPorts  = "none" // of ports.exclude
)

// PortsText is a list of ports for people. empty stands for a list that has none.
func PortsText(ranges []datapath.PortRange, empty string) string {
	if len(ranges) == 0 {
		return empty
	}
	var parts []string
	for _, r := range ranges {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ",")
}

// Change brings a sandbox that has a record to what Do would make of it, also where that takes acceleration away because a
// hazard is not accepted any more.
func (c Call) Change(ctx context.Context, sb endpoint.Sandbox) error {
	err := c.Do(ctx, sb)
	var hazards *endpoint.HazardError
	if errors.As(err, &hazards) {
		return c.Node.Withdraw(ctx, sb, err)
	}
	return err
}
