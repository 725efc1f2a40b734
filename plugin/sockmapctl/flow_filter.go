// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
)

// flowFilter picks flows. Within one list one element has to fit, and of all lists that are not empty each.
type flowFilter struct {
	pods, namespaces, addresses, ports, modes, reasons, roles []string

	prefixes []netip.Prefix
	numbers  []portRange
}

type portRange struct{ first, last uint16 }

func (f *flowFilter) flags(a *app, cmd *cobra.Command) {
	for _, one := range []struct {
		list        *[]string
		name, usage string
	}{
		{&f.pods, "pod", "`PODS` of either end: name, or namespace/name"},
		{&f.namespaces, "namespace", "`NAMESPACES` of pods of either end"},
		{&f.addresses, "address", "`ADDRESSES` of either end, or prefixes like 10.1.0.0/16"},
		{&f.ports, "port", "`PORTS` of either end, or ranges like 8000-8999"},
		{&f.modes, "mode", "`MODES`: " + orList(modeNames())},
		{&f.reasons, "reason", "`REASONS` why it is on TCP, see METRICS.md"},
		{&f.roles, "role", "`ROLES` of the end: " + orList(roleNames())},
	} {
		cmd.Flags().StringSliceVar(one.list, one.name, nil, one.usage)
	}
	complete(cmd, "mode", modeNames())
	complete(cmd, "reason", reasonNames())
	complete(cmd, "role", roleNames())
	completeWith(cmd, "pod", a.podNames)
	completeWith(cmd, "namespace", a.namespaceNames)
}

func names[T fmt.Stringer](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = v.String()
	}
	return out
}

func modeNames() []string   { return names(datapath.Modes()) }
func roleNames() []string   { return names(datapath.Roles()) }
func reasonNames() []string { return names(datapath.Reasons()) }

// check parses, and refuses what can fit no flow.
func (f *flowFilter) check() error {
	for _, one := range []struct {
		flag         string
		given, known []string
	}{{"--mode", f.modes, modeNames()}, {"--reason", f.reasons, reasonNames()}, {"--role", f.roles, roleNames()}} {
		for _, v := range one.given {
			if !slices.Contains(one.known, v) {
				return fmt.Errorf("%s: %q is not %s", one.flag, v, orList(one.known))
			}
		}
	}
	f.prefixes = nil
	for _, s := range f.addresses {
		p, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("--address: %q is neither an address nor a prefix", s)
		}
		f.prefixes = append(f.prefixes, p)
	}
	var err error
	f.numbers, err = parsePorts(f.ports)
	return err
}

func parsePorts(texts []string) (ranges []portRange, err error) {
	for _, s := range texts {
		r, err := parsePortRange(s)
		if err != nil {
			return nil, fmt.Errorf("--port: %q is neither a port nor a range of ports from 1 to 65535", s)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// parsePrefix takes an address for the prefix of all its bits.
func parsePrefix(s string) (netip.Prefix, error) {
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

func parsePortRange(s string) (r portRange, err error) {
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
	return portRange{uint16(a), uint16(b)}, nil
}

func (f *flowFilter) fits(v *flowView) bool {
	return fitsOne(f.modes, v.Mode) && fitsOne(f.reasons, v.Reason) && fitsOne(f.roles, v.Role) &&
		f.fitsPod(v) && fitsOne(f.namespaces, v.Namespace, v.PeerNamespace) && f.fitsAddress(v) && f.fitsPort(v)
}

// fitsOne reports whether the list has one of the values. An empty list has all.
func fitsOne(list []string, values ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return v != "" && slices.Contains(list, v) })
}

func (f *flowFilter) fitsPod(v *flowView) bool {
	return fitsOne(f.pods, v.Pod, v.PeerPod, podName(v.Namespace, v.Pod), podName(v.PeerNamespace, v.PeerPod))
}

func podName(namespace, pod string) string {
	if pod == "" {
		return ""
	}
	return namespace + "/" + pod
}

func (f *flowFilter) fitsAddress(v *flowView) bool {
	return len(f.prefixes) == 0 || slices.ContainsFunc(f.prefixes, func(p netip.Prefix) bool {
		return p.Contains(v.Local.Addr()) || p.Contains(v.Remote.Addr())
	})
}

func (f *flowFilter) fitsPort(v *flowView) bool {
	return fitsPorts(f.numbers, v.Local.Port(), v.Remote.Port())
}

// fitsPorts reports whether a range has one of the ports. No range has all.
func fitsPorts(ranges []portRange, ports ...uint16) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r portRange) bool {
		return slices.ContainsFunc(ports, r.has)
	})
}

func (r portRange) has(port uint16) bool { return r.first <= port && port <= r.last }

func (f *flowFilter) flows(all []flowView) []flowView {
	return slices.DeleteFunc(all, func(v flowView) bool { return !f.fits(&v) })
}

// pairs picks pairs of which one end fits.
func (f *flowFilter) pairs(all []pairView) []pairView {
	return slices.DeleteFunc(all, func(p pairView) bool {
		return !(p.Client != nil && f.fits(p.Client)) && !(p.Server != nil && f.fits(p.Server))
	})
}
