// SPDX-License-Identifier: Apache-2.0

// Package hazard names the ways in which kernels treat redirected sockets wrongly, and the guards that cure
// them. It is data only, and imports nothing of ours: package probe finds out which hazards this kernel has.
package hazard

import (
	"slices"
	"strings"
)

// Set is a set of hazards, as the map `config` holds it: see Hazard.Bit.
type Set uint32

// SetOf returns the set of these names. It ignores unknown names; All stands for every hazard.
func SetOf(names ...string) (s Set) {
	for _, h := range Table {
		if slices.Contains(names, h.Name) || slices.Contains(names, All) {
			s |= h.Set()
		}
	}
	return s
}

// Names lists the members, in the order of Table.
func (s Set) Names() (names []string) {
	for _, h := range s.members() {
		names = append(names, h.Name)
	}
	return names
}

func (s Set) members() (members []Hazard) {
	for _, h := range Table {
		if s&h.Set() != 0 {
			members = append(members, h)
		}
	}
	return members
}

// Severe returns the members that keep acceleration off.
func (s Set) Severe() (severe Set) {
	for _, h := range s.members() {
		if h.Severity == Severe {
			severe |= h.Set()
		}
	}
	return severe
}

// OfNode returns the members that no pod may accept for itself.
func (s Set) OfNode() (ofNode Set) {
	for _, h := range s.members() {
		if h.Scope == ScopeNode {
			ofNode |= h.Set()
		}
	}
	return ofNode
}

// String lists the names with commas.
func (s Set) String() string { return strings.Join(s.Names(), ", ") }

// Finding is the result of one probe.
type Finding struct {
	Name    string `json:"name"`
	Present bool   `json:"present"` // the kernel has the hazard, and nothing keeps applications from meeting it
	Guarded bool   `json:"guarded"` // the kernel has it, and a guard cures it
	Seen    string `json:"seen"`    // the evidence, in words
	Nanos   int64  `json:"nanoseconds"`
}

// Findings are those of one run of the probes.
type Findings []Finding

// After merges these findings with earlier ones, of probes that ran before a guard was loaded for a hazard
// that they had found. If the hazard is not seen any more, the guard cures it. Findings that were not
// repeated stay as they were.
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

// Sets returns the hazards that the kernel has, and those among them that are guarded.
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
