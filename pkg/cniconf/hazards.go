// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

func knownHazard(name string) bool {
	_, ok := hazard.Named(name)
	return ok || name == hazard.All
}

// hazardNames lists the names that may be accepted where hazards of these scopes may.
func hazardNames(scopes ...hazard.Scope) []string {
	names := []string{hazard.All}
	for _, h := range hazard.Table {
		if slices.Contains(scopes, h.Scope) {
			names = append(names, h.Name)
		}
	}
	return names
}

func (v value) hazards() {
	allowed := "one of " + strings.Join(hazardNames(hazard.ScopePod, hazard.ScopeNode), ", ")
	if names, ok := v.names(knownHazard, allowed); ok {
		v.conf.AcceptHazards = names
	}
}

func (v value) guards() {
	known := hazard.GuardNames()
	names, ok := v.names(func(name string) bool { return slices.Contains(known, name) },
		"one of "+strings.Join(known, ", "))
	if ok {
		v.conf.Guards = append([]string{}, names...) // unlike nil, an empty list is none at all
	}
}

// names reads a list of known names. ok is false when something was rejected.
func (v value) names(known func(string) bool, allowed string) (names []string, ok bool) {
	items, ok := v.list()
	if !ok {
		return nil, false
	}
	for i, raw := range items {
		name, _ := str(raw)
		if !known(name) {
			v.item(i, raw, allowed).reject()
			ok = false
		}
		names = append(names, name)
	}
	return names, ok
}

// GuardsOff returns the names of the guards that are not to run, in the order of hazard.Guards.
func (c *Conf) GuardsOff() []string {
	return slices.DeleteFunc(hazard.GuardNames(),
		func(name string) bool { return slices.Contains(c.Guards, name) })
}

// HazardsAccepted returns the names of the hazards that this call may meet: those of acceptHazards, and those
// of hazard.ScopePod in the pod's annotation. Each is listed once, in the order of hazard.Table; "all" is
// written out.
func (c *Conf) HazardsAccepted() []string {
	byPod := splitList(c.Annotations[AnnotationAcceptHazards])
	var accepted []string
	for _, h := range hazard.Table {
		if namesHazard(c.AcceptHazards, h) || h.Scope == hazard.ScopePod && namesHazard(byPod, h) {
			accepted = append(accepted, h.Name)
		}
	}
	return accepted
}

func namesHazard(names []string, h hazard.Hazard) bool {
	return slices.Contains(names, h.Name) || slices.Contains(names, hazard.All)
}

// checkAcceptHazards warns about names in the annotation that HazardsAccepted ignores.
func (c *Conf) checkAcceptHazards() {
	for _, name := range splitList(c.Annotations[AnnotationAcceptHazards]) {
		switch h, ok := hazard.Named(name); {
		case name == hazard.All, h.Scope == hazard.ScopePod:
		case ok && slices.Contains(c.HazardsAccepted(), name): // by the key
		case ok:
			c.warn("annotation %s: %s is ignored, it is a hazard of the node, which only the key acceptHazards can "+
				"accept",
				AnnotationAcceptHazards, quoted(name))
		default:
			c.warn("annotation %s: %s is ignored, it is not one of %s", AnnotationAcceptHazards, quoted(name),
				strings.Join(hazardNames(hazard.ScopePod), ", "))
		}
	}
}
