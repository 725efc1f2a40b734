// SPDX-License-Identifier: Apache-2.0

// Package hazard finds out, by behaviour and not by version, what redirected sockets do wrong on the running kernel.
//
// Distribution kernels carry backports, so a version says little. The probes make real connections in a cgroup and a
// network namespace of their own, through the very programs that are about to be used, and look.
package hazard

import (
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
)

// Severity says what a hazard means for an application that meets it.
type Severity string

const (
	// Severe: it loses data, hangs common programs, or endangers the node. Acceleration stays off until a guard cures it or
	// the operator accepts it.
	Severe Severity = "severe"
	// Minor: an answer of the socket API differs. Documented in docs/LIMITS.md. No hazard is at present.
	Minor Severity = "minor"
)

// Hazard is one way in which a redirected socket can differ from a plain one.
type Hazard struct {
	Name     string   `json:"name"`
	Meaning  string   `json:"meaning"`
	Severity Severity `json:"severity"`
	Cure     string   `json:"cure"`
}

// details are what this package adds to the names that configuration knows.
var details = map[string]struct {
	severity Severity
	cure     string
}{
	"splice":              {Severe, "the splice guard, where the kernel lets tracing programs load"},
	"fionread-redirected": {Severe, "the fionread guard, where the kernel lets tracing programs load, or a kernel whose tcp_bpf_ioctl counts redirected bytes (6.12.75, 6.18.14 and later)"},
	"fionread-tcp":        {Severe, "the fionread guard, where the kernel lets tracing programs load, or a kernel with commit 04af4efde58a (6.12.114 and later lines)"},
	"zerocopy":            {Severe, "the options guard; sockets that ask before they connect are never taken"},
	"memory-charge":       {Severe, "a kernel that charges the reader (5.15.176, 6.1.123, 6.6.69, 6.12.8 and later)"},
	"ktls":                {Severe, "the options guard; sockets with an upper-layer protocol are never taken"},
	"mptcp":               {Severe, "a kernel with commit fbade4bd08ba (5.15.197, 6.1.159, 6.6.118, 6.12.60, 6.18 and later)"},
	"backpressure":        {Severe, "none: the bound does not work on this kernel"},
	"fin":                 {Severe, "none: the end of a stream is lost on this kernel"},
	"epoll-edge":          {Severe, "none: edge-triggered readers are not woken on this kernel"},
	"eagain":              {Severe, "the blocking guard, where the kernel lets tracing programs load; programs that poll first do not meet it"},
	"edge-mixed":          {Severe, "a kernel where bpf_setsockopt can tell a reader of bytes that wait (6.1 and later)"},
}

// All lists the hazards. Their order is the order of the bits of a Set.
func All() []Hazard {
	all := make([]Hazard, 0, len(cniconf.Hazards))
	for _, h := range cniconf.Hazards {
		d := details[h.Name]
		all = append(all, Hazard{h.Name, h.Summary, d.severity, d.cure})
	}
	return all
}

// Set is a set of hazards, as the config map holds it.
type Set uint32

// SetOf makes a set of names. Names that are not known are ignored; "all" is every hazard.
func SetOf(names ...string) (s Set) {
	for i, h := range cniconf.Hazards {
		if slices.Contains(names, h.Name) || slices.Contains(names, cniconf.HazardAll) {
			s |= 1 << i
		}
	}
	return s
}

// Names lists the members, in the order of All.
func (s Set) Names() (names []string) {
	for i, h := range cniconf.Hazards {
		if s&(1<<i) != 0 {
			names = append(names, h.Name)
		}
	}
	return names
}

// Severe is the part of the set that keeps acceleration off.
func (s Set) Severe() (severe Set) {
	for i, h := range cniconf.Hazards {
		if details[h.Name].severity == Severe {
			severe |= s & (1 << i)
		}
	}
	return severe
}

// OfNode is the part of the set that no pod may accept for itself.
func (s Set) OfNode() (ofNode Set) {
	for i, h := range cniconf.Hazards {
		if h.Scope == cniconf.ScopeNode {
			ofNode |= s & (1 << i)
		}
	}
	return ofNode
}

// String lists the names with commas.
func (s Set) String() string { return strings.Join(s.Names(), ", ") }

// Finding is what one probe saw.
type Finding struct {
	Name    string `json:"name"`
	Present bool   `json:"present"` // the kernel has the hazard, and nothing keeps applications from meeting it
	Guarded bool   `json:"guarded"` // the kernel has it, and a guard answers in its place
	Seen    string `json:"seen"`    // what was seen, in words
	Nanos   int64  `json:"nanoseconds"`
}

// Findings are those of one run.
type Findings []Finding

// After is what is known when these come after earlier findings, of probes that ran before a guard was loaded for what
// they had found: where the hazard is not seen any more, the guard cures it. Those that were not looked for again stay.
func (f Findings) After(earlier Findings) Findings {
	all := slices.Clone(earlier)
	for _, now := range f {
		i := slices.IndexFunc(all, func(one Finding) bool { return one.Name == now.Name })
		if i < 0 {
			all = append(all, now)
			continue
		}
		now.Nanos += all[i].Nanos
		if all[i].Present && !now.Present {
			now.Guarded, now.Seen = true, now.Seen+" (without the guard: "+all[i].Seen+")"
		}
		all[i] = now
	}
	return all
}

// Sets gives the hazards that the kernel has, and those among them that are guarded.
func (f Findings) Sets() (present, guarded Set) {
	for _, one := range f {
		if one.Present || one.Guarded {
			present |= SetOf(one.Name)
		}
		if one.Guarded {
			guarded |= SetOf(one.Name)
		}
	}
	return present, guarded
}
