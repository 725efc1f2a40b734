// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"slices"
	"strings"
)

// Hazard is a way in which some kernels let an application see that its bytes are redirected.
type Hazard struct {
	Name    string // as in acceptHazards
	Summary string // what an application sees, one clause
	Scope   Scope
}

// Scope says who is harmed by a hazard, and so who may accept it.
type Scope string

const (
	// ScopePod: the programs of the pod, which may accept it by annotation.
	ScopePod Scope = "pod"
	// ScopeNode: all of the node, whose operator alone may accept it, by acceptHazards.
	ScopeNode Scope = "node"
)

// HazardAll stands for every hazard in acceptHazards, and for those of ScopePod in the annotation.
const HazardAll = "all"

// Hazards is the table of all of them. It is never written.
var Hazards = [...]Hazard{
	{"splice", "splice(2), and with it Go's io.Copy, reads nothing or hangs", ScopePod},
	{"fionread-redirected", "FIONREAD does not count redirected bytes", ScopePod},
	{"fionread-tcp", "FIONREAD does not count bytes that came by TCP", ScopePod},
	{"zerocopy", "the completion of a MSG_ZEROCOPY send never arrives", ScopePod},
	{"memory-charge", "unread redirected bytes are not charged to the reader's socket", ScopeNode},
	{"ktls", "a kTLS session on an accelerated connection fails", ScopePod},
	{"mptcp", "an MPTCP connection is taken for a plain one", ScopeNode},
	{"backpressure", "a writer is not held back by a reader that does not read", ScopeNode},
	{"fin", "redirected bytes are lost when the writer closes", ScopePod},
	{"epoll-edge", "an edge-triggered reader is not told about bytes that wait", ScopePod},
	{"eagain", "a blocking receive that something else than data wakes returns EAGAIN", ScopePod},
	{"edge-mixed", "an edge-triggered reader that takes a short read for the end misses bytes by TCP behind redirected ones", ScopePod},
}

func hazardNamed(name string) (Hazard, bool) {
	i := slices.IndexFunc(Hazards[:], func(h Hazard) bool { return h.Name == name })
	if i < 0 {
		return Hazard{}, false
	}
	return Hazards[i], true
}

func knownHazard(name string) bool {
	_, ok := hazardNamed(name)
	return ok || name == HazardAll
}

// hazardNames lists what may be named where hazards of these scopes are accepted.
func hazardNames(scopes ...Scope) []string {
	names := []string{HazardAll}
	for _, h := range Hazards {
		if slices.Contains(scopes, h.Scope) {
			names = append(names, h.Name)
		}
	}
	return names
}

func (v value) hazards() {
	items, ok := v.list()
	if !ok {
		return
	}
	before := len(v.wrong)
	var accepted []string
	for i, raw := range items {
		name, _ := str(raw)
		if !knownHazard(name) {
			v.item(i, raw, "one of "+strings.Join(hazardNames(ScopePod, ScopeNode), ", ")).reject()
		}
		accepted = append(accepted, name)
	}
	if len(v.wrong) == before {
		v.conf.AcceptHazards = accepted
	}
}

// HazardsAccepted returns the names of the hazards that this call may meet: those of acceptHazards and, of the pod's
// annotation, those of ScopePod, each once, in the order of Hazards, with "all" written out.
func (c *Conf) HazardsAccepted() []string {
	byPod := splitList(c.Annotations[AnnotationAcceptHazards])
	var accepted []string
	for _, h := range Hazards {
		if namesHazard(c.AcceptHazards, h) || h.Scope == ScopePod && namesHazard(byPod, h) {
			accepted = append(accepted, h.Name)
		}
	}
	return accepted
}

func namesHazard(names []string, h Hazard) bool {
	return slices.Contains(names, h.Name) || slices.Contains(names, HazardAll)
}

// checkAcceptHazards warns about what HazardsAccepted passes over in the annotation.
func (c *Conf) checkAcceptHazards() {
	for _, name := range splitList(c.Annotations[AnnotationAcceptHazards]) {
		switch h, ok := hazardNamed(name); {
		case name == HazardAll, h.Scope == ScopePod:
		case ok && slices.Contains(c.HazardsAccepted(), name): // by the key
		case ok:
			c.warn("annotation %s: %s is ignored, it is a hazard of the node, which only the key acceptHazards can accept",
				AnnotationAcceptHazards, quoted(name))
		default:
			c.warn("annotation %s: %s is ignored, it is not one of %s", AnnotationAcceptHazards, quoted(name),
				strings.Join(hazardNames(ScopePod), ", "))
		}
	}
}
