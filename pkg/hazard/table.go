// SPDX-License-Identifier: Apache-2.0

package hazard

import "strings"

// Hazard is one way in which some kernels let an application notice that its bytes are redirected.
type Hazard struct {
	Bit      uint   // in a Set, and in config.hazards of the pinned state: never changes and is never used again
	Name     string // as in the key acceptHazards
	Meaning  string // what an application sees, one clause
	Severity Severity
	Scope    Scope
	Guard    string // the guard that cures it; empty: none does
	Else     string // what else cures it, for people; may be empty
}

// Severity says what a hazard does to an application that meets it.
type Severity string

const (
	// Severe hazards lose data, hang common programs or endanger the node. Acceleration stays off until a guard
	// cures the hazard or the configuration accepts it.
	Severe Severity = "severe"
	// Minor hazards change a result of the socket API. No hazard is minor at present.
	Minor Severity = "minor"
)

// Scope says who is harmed by a hazard, and so who may accept it.
type Scope string

const (
	// ScopePod hazards harm the programs of the pod, which may accept them by annotation.
	ScopePod Scope = "pod"
	// ScopeNode hazards harm the whole node. Only its operator may accept them, by the key acceptHazards.
	ScopeNode Scope = "node"
)

// All stands for every hazard in acceptHazards, and for those of ScopePod in the annotation.
const All = "all"

// Table has every hazard, in the order in which probes run and documents list them. Nobody writes to it.
//
// For a new hazard, add a row with the next free bit and a probe of the same name in pkg/hazard/probe, then
// run: go test ./pkg/hazard ./pkg/cniconf ./pkg/metrics -update
var Table = [...]Hazard{
	{
		Bit: 0, Name: "splice", Severity: Severe, Scope: ScopePod, Guard: GuardSplice,
		Meaning: "splice(2), and with it Go's io.Copy, reads nothing or hangs",
	},
	{
		Bit: 1, Name: "fionread-redirected", Severity: Severe, Scope: ScopePod, Guard: GuardFionread,
		Meaning: "FIONREAD does not count redirected bytes",
		Else:    "a kernel whose tcp_bpf_ioctl counts redirected bytes (6.12.75, 6.18.14 and later)",
	},
	{
		Bit: 2, Name: "fionread-tcp", Severity: Severe, Scope: ScopePod, Guard: GuardFionread,
		Meaning: "FIONREAD does not count bytes that came over TCP",
		Else:    "a kernel with commit 04af4efde58a (6.12.114 and later lines)",
	},
	{
		Bit: 3, Name: "zerocopy", Severity: Severe, Scope: ScopePod, Guard: GuardOptions,
		Meaning: "the completion of a MSG_ZEROCOPY send never arrives",
		Else:    "setting SO_ZEROCOPY before connect: such sockets stay on TCP",
	},
	{
		Bit: 4, Name: "memory-charge", Severity: Severe, Scope: ScopeNode,
		Meaning: "unread redirected bytes are not charged to the reader's socket",
		Else:    "a kernel that charges the reader (5.15.176, 6.1.123, 6.6.69, 6.12.8 and later)",
	},
	{
		Bit: 5, Name: "ktls", Severity: Severe, Scope: ScopePod, Guard: GuardOptions,
		Meaning: "a kTLS session on an accelerated connection fails",
		Else:    "setting TCP_ULP before connect: such sockets stay on TCP",
	},
	{
		Bit: 6, Name: "mptcp", Severity: Severe, Scope: ScopeNode,
		Meaning: "an MPTCP connection is mistaken for a plain one",
		Else:    "a kernel with commit fbade4bd08ba (5.15.197, 6.1.159, 6.6.118, 6.12.60, 6.18 and later)",
	},
	{
		Bit: 7, Name: "backpressure", Severity: Severe, Scope: ScopeNode,
		Meaning: "a writer is not held back by a reader that does not read",
	},
	{
		Bit: 8, Name: "fin", Severity: Severe, Scope: ScopePod,
		Meaning: "redirected bytes are lost when the writer closes",
	},
	{
		Bit: 9, Name: "epoll-edge", Severity: Severe, Scope: ScopePod,
		Meaning: "an edge-triggered reader is not woken for bytes that wait",
	},
	{
		Bit: 10, Name: "eagain", Severity: Severe, Scope: ScopePod, Guard: GuardBlocking,
		Meaning: "a blocking receive woken by anything but data returns EAGAIN",
		Else:    "programs that poll before they receive",
	},
	{
		Bit: 11, Name: "edge-mixed", Severity: Severe, Scope: ScopePod,
		Meaning: "an edge-triggered reader that takes a short read for the end misses bytes over TCP behind " +
			"redirected ones",
		Else: "a kernel where bpf_setsockopt can wake a reader for bytes that wait (6.1 and later)",
	},
}

// Set is the set that has this hazard only.
func (h Hazard) Set() Set { return 1 << h.Bit }

// Cure says what takes the hazard away, for people.
func (h Hazard) Cure() string {
	var ways []string
	for _, g := range Guards {
		if g.Name != h.Guard {
			continue
		}
		way := "the guard " + g.Name
		if g.Tracing {
			way += ", if the kernel loads tracing programs"
		}
		ways = append(ways, way)
	}
	if h.Else != "" {
		ways = append(ways, h.Else)
	}
	if len(ways) == 0 {
		return "nothing on this kernel"
	}
	return strings.Join(ways, "; or ")
}

// Named returns the hazard of a name.
func Named(name string) (h Hazard, ok bool) {
	for _, h := range Table {
		if h.Name == name {
			return h, true
		}
	}
	return Hazard{}, false
}
