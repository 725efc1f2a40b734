// SPDX-License-Identifier: Apache-2.0

// Package decline names the reasons why a container is not accelerated.
//
// One table gives each reason its number, which attachments keep; its name, which metrics and -o json show;
// and the code of the CNI error that a runtime gets when acceleration is required. docs/METRICS.md is
// generated from it.
package decline

import (
	"fmt"
	"slices"
)

// Reason is why a container is not accelerated.
//
// The numbers are part of the ABI: struct attachment of bpf/abi.h keeps them, and other versions read them. A
// number is never reused; a new reason gets the next one, which needs no new ABI.
type Reason uint32

// The reasons. Their meanings are in the table.
const (
	None              Reason = 0 // it is accelerated
	OptedOut          Reason = 1
	Hazards           Reason = 2
	Kernel            Reason = 3
	Permission        Reason = 4
	Load              Reason = 5
	ForeignState      Reason = 6
	BPFFS             Reason = 7
	Cgroup            Reason = 8
	CgroupPath        Reason = 9
	TooManyPrograms   Reason = 10
	ExclusiveProgram  Reason = 11
	Neighbour         Reason = 12
	MapFull           Reason = 13
	Resources         Reason = 14
	NetNS             Reason = 15
	Busy              Reason = 16
	Other             Reason = 17
	LinkGone          Reason = 18
	EndpointGone      Reason = 19
	OptedOutElsewhere Reason = 20
	Unrecorded        Reason = 21
	Disabled          Reason = 22
	NotLoaded         Reason = 23
	SwitchedOff       Reason = 24
)

// firstCode is that of the first number: the CNI specification leaves 100 and up to plugins.
const firstCode = 100

// row is one reason. The zero row is no reason.
type row struct {
	name    string
	code    uint   // of the CNI specification; 0: it has none for this, and the code is firstCode and the number
	meaning string // for docs/METRICS.md
}

var table = [...]row{
	OptedOut: {
		"opted-out", 0,
		"the pod's annotation or the key `enabled` opts it out; the runtime gets no error",
	},
	Hazards: {
		"hazards", 0,
		"severe hazards of the kernel are neither guarded nor accepted, see `sockmapctl doctor`",
	},
	Kernel: {
		"kernel", 0,
		"the kernel lacks something that the programs need",
	},
	Permission: {
		"permission", 0,
		"the kernel does not permit it: privileges, lockdown or a security module",
	},
	Load: {
		"load", 0,
		"the programs could not be loaded, or the probes for hazards did not come to an end",
	},
	ForeignState: {
		"foreign-state", 0,
		"the pinned state is of another version, or not sockmap's, see `sockmapctl status`",
	},
	BPFFS: {
		"bpffs", 0,
		"there is no bpffs at `bpffsPath`, or it cannot be used",
	},
	Cgroup: {
		"cgroup", 0,
		"there is no cgroup2 that can be used",
	},
	CgroupPath: {
		"cgroup-path", 7,
		"the key `cgroupPath` names a cgroup that cannot be used",
	},
	TooManyPrograms: {
		"too-many-programs", 0,
		"the cgroup has as many sock_ops programs as the kernel allows",
	},
	ExclusiveProgram: {
		"exclusive-program", 0,
		"a sock_ops program that admits no other is at the cgroup or above it",
	},
	Neighbour: {
		"neighbour", 0,
		"another sock_ops program is in the way, see the key `coexist`",
	},
	MapFull: {
		"map-full", 0,
		"a map is full, see `sockmap_map_entries`",
	},
	Resources: {
		"resources", 0,
		"memory or file descriptors have run out",
	},
	NetNS: {
		"netns", 8,
		"CNI_NETNS is not the network namespace of a container; nothing is recorded",
	},
	Busy: {
		"busy", 11,
		"another process holds the lock of the pinned state; nothing is recorded",
	},
	Other: {
		"other", 999,
		"all else; `sockmapctl attachments` has the words",
	},
	LinkGone: {
		"link-gone", 0,
		"it was accelerated, and its cgroup has no link any more",
	},
	EndpointGone: {
		"endpoint-gone", 0,
		"it was accelerated, and its network namespace is not registered any more",
	},
	OptedOutElsewhere: {
		"opted-out-elsewhere", 0,
		"another network of the same pod has opted out",
	},
	Unrecorded: {
		"unrecorded", 0,
		"the attachment was written by ABI 1, which had no numbers; `sockmapctl attachments` has the words",
	},
	Disabled: {
		"disabled", 0,
		"`sockmapctl disable`: a reason of the node, never of a container, which is registered anyway",
	},
	NotLoaded: {
		"not-loaded", 0,
		"the programs are not loaded: a reason of the node, never of a container",
	},
	SwitchedOff: {
		"switched-off", 0,
		"an operator has switched off the pod or its namespace: `sockmapctl disable POD` or `--namespace`",
	},
}

// All lists every reason but None, by number.
func All() []Reason {
	all := make([]Reason, 0, len(table)-1)
	for r := None + 1; r < Reason(len(table)); r++ {
		all = append(all, r)
	}
	return all
}

// OfContainers lists the reasons that an attachment can have, by number. The others are not recorded, or are
// reasons of the node.
func OfContainers() []Reason {
	return slices.DeleteFunc(All(), func(r Reason) bool {
		return r == NetNS || r == Busy || r == Disabled || r == NotLoaded
	})
}

func (r Reason) known() bool { return r != None && r < Reason(len(table)) }

// String is the value of the label reason. It is empty for None, and number-N for a number that only a newer
// version knows.
func (r Reason) String() string {
	switch {
	case r == None:
		return ""
	case r.known():
		return table[r].name
	}
	return fmt.Sprintf("number-%d", uint32(r))
}

// The states of a container by its Reason, as commands and metrics name them.
const (
	StateAccelerated = "accelerated"
	StateOptedOut    = "opted-out" // the configuration, an annotation or an operator chose TCP
	StateDeclined    = "declined"
)

// State is the state of a container that has this reason.
func (r Reason) State() string {
	switch r {
	case None:
		return StateAccelerated
	case OptedOut, OptedOutElsewhere, SwitchedOff:
		return StateOptedOut
	}
	return StateDeclined
}

// MarshalText writes the name into JSON.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Code is the code of the CNI error for the reason: that of the specification if it has one, else 100 plus
// the number. It is 0 for None.
func (r Reason) Code() uint {
	switch {
	case r == None:
		return 0
	case r.known() && table[r].code != 0:
		return table[r].code
	}
	return firstCode + uint(r)
}

// Meaning explains the reason, in Markdown. It is empty for None and for unknown numbers.
func (r Reason) Meaning() string {
	if !r.known() {
		return ""
	}
	return table[r].meaning
}
