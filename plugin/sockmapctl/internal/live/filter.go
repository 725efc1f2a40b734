// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// Filter picks flows. Within one list one element has to fit, and of all lists that are not empty each.
type Filter struct {
	Pods, Namespaces, Addresses, Ports, Modes, Reasons, Roles []string

	prefixes []netip.Prefix
	numbers  []PortRange
}

type PortRange struct{ first, last uint16 }

// Check parses, and refuses what can fit no flow.
func (f *Filter) Check() error {
	for _, one := range []struct {
		flag         string
		given, known []string
	}{{"--mode", f.Modes, ModeNames()}, {"--reason", f.Reasons, ReasonNames()}, {"--role", f.Roles, RoleNames()}} {
		for _, v := range one.given {
			if !slices.Contains(one.known, v) {
				return fmt.Errorf("%s: %q is not %s", one.flag, v, term.OrList(one.known))
			}
		}
	}
	f.prefixes = nil
	for _, s := range f.Addresses {
		p, err := ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--address: %q is neither an address nor a prefix", s)
		}
		f.prefixes = append(f.prefixes, p)
	}
	var err error
	f.numbers, err = ParsePorts(f.Ports)
	return err
}

func ParsePorts(texts []string) (ranges []PortRange, err error) {
	for _, s := range texts {
		r, err := parsePortRange(s)
		if err != nil {
			return nil, fmt.Errorf("--port: %q is neither a port nor a range of ports from 1 to 65535", s)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// ParsePrefix takes an address for the prefix of all its bits.
func ParsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return a.Prefix(a.BitLen())
}

func parsePortRange(s string) (r PortRange, err error) {
	first, last, ranged := strings.Cut(s, "-")
	if !ranged {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return r, err
	}
	b, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return r, err
	}
	if a == 0 || b < a {
		return r, strconv.ErrRange
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

func (f *Filter) fits(v *Flow) bool {
	return FitsOne(f.Modes, v.Mode) && FitsOne(f.Reasons, v.Reason) && FitsOne(f.Roles, v.Role) &&
		f.fitsPod(v) && FitsOne(f.Namespaces, v.Namespace, v.PeerNamespace) && f.fitsAddress(v) && f.fitsPort(v)
}

// FitsOne reports whether the list has one of the values. An empty list has all.
func FitsOne(list []string, values ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return v != "" && slices.Contains(list, v) })
}

func (f *Filter) fitsPod(v *Flow) bool {
	return FitsOne(f.Pods, v.Pod, v.PeerPod, PodName(v.Namespace, v.Pod), PodName(v.PeerNamespace, v.PeerPod))
}

func (f *Filter) fitsAddress(v *Flow) bool {
	return len(f.prefixes) == 0 || slices.ContainsFunc(f.prefixes, func(p netip.Prefix) bool {
		return p.Contains(v.Local.Addr()) || p.Contains(v.Remote.Addr())
	})
}

func (f *Filter) fitsPort(v *Flow) bool {
	return FitsPorts(f.numbers, v.Local.Port(), v.Remote.Port())
}

// FitsPorts reports whether a range has one of the ports. No range has all.
func FitsPorts(ranges []PortRange, ports ...uint16) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r PortRange) bool {
		return slices.ContainsFunc(ports, r.has)
	})
}

func (r PortRange) has(port uint16) bool { return r.first <= port && port <= r.last }

func (f *Filter) Flows(all []Flow) []Flow {
	return slices.DeleteFunc(all, func(v Flow) bool { return !f.fits(&v) })
}

// Pairs picks pairs of which one end fits.
func (f *Filter) Pairs(all []Pair) []Pair {
	return slices.DeleteFunc(all, func(p Pair) bool {
		return !(p.Client != nil && f.fits(p.Client)) && !(p.Server != nil && f.fits(p.Server))
	})
}
