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
}

// HazardAll stands for every hazard, in acceptHazards and in the annotation.
const HazardAll = "all"

// Hazards is the table of all of them. It is never written.
var Hazards = [...]Hazard{
	{"splice", "splice(2), and with it Go's io.Copy, reads nothing or hangs"},
	{"fionread-redirected", "FIONREAD does not count redirected bytes"},
	{"fionread-tcp", "FIONREAD does not count bytes that came by TCP"},
	{"zerocopy", "the completion of a MSG_ZEROCOPY send never arrives"},
	{"memory-charge", "unread redirected bytes are not charged to the reader's socket"},
	{"ktls", "a kTLS session on an accelerated connection fails"},
	{"mptcp", "an MPTCP connection is taken for a plain one"},
	{"backpressure", "a writer is not held back by a reader that does not read"},
	{"fin", "redirected bytes are lost when the writer closes"},
	{"epoll-edge", "an edge-triggered reader is not told about bytes that wait"},
	{"eagain", "a blocking receive that something else than data wakes returns EAGAIN"},
	{"edge-mixed", "an edge-triggered reader that takes a short read for the end misses bytes by TCP behind redirected ones"},
}

func knownHazard(name string) bool {
	return name == HazardAll || slices.ContainsFunc(Hazards[:], func(h Hazard) bool { return h.Name == name })
}

func hazardNames() []string {
	names := []string{HazardAll}
	for _, h := range Hazards {
		names = append(names, h.Name)
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
			v.item(i, raw, "one of "+strings.Join(hazardNames(), ", ")).reject()
		}
		accepted = append(accepted, name)
	}
	if len(v.wrong) == before {
		v.conf.AcceptHazards = accepted
	}
}

// HazardsAccepted returns the names of the hazards that this call may meet: those of acceptHazards and those of
// the pod's annotation, each once, in the order of Hazards, with "all" written out.
func (c *Conf) HazardsAccepted() []string {
	wanted := append(slices.Clone(c.AcceptHazards), splitList(c.Annotations[AnnotationAcceptHazards])...)
	var accepted []string
	for _, h := range Hazards {
		if slices.Contains(wanted, h.Name) || slices.Contains(wanted, HazardAll) {
			accepted = append(accepted, h.Name)
		}
	}
	return accepted
}
