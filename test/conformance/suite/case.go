// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"strings"
	"time"
)

// A Case is one behaviour of the socket API.
type Case struct {
	// Name is family/behaviour.
	Name string
	Run  func(t *T)

	// Alone: the case makes its connections itself, instead of getting a pair.
	Alone bool
	// Fresh: nothing was sent on the pair before, so that its first message
	// is the case's. Otherwise a few bytes went both ways, which is long
	// enough for a direction that first looks at its reader.
	Fresh bool
	// Blocking: its subject is a call that waits in the kernel, as most simple
	// programs have it. Otherwise descriptors have O_NONBLOCK from their
	// creation, and what waits is poll(2), as where events drive a program.
	Blocking bool
	// EventLoop: descriptors are in an epoll set from their creation, as event
	// loops have them.
	EventLoop bool
	// AlsoBlocking and AlsoAtOnce ask [Expand] for a variant that is Blocking,
	// and for one that is Fresh; see [AtOnce].
	AlsoBlocking, AlsoAtOnce bool
	// Serial: nothing else may run meanwhile, because it measures time, or
	// turns a switch of the node.
	Serial bool
	// Bulk: its bytes count for the share that is redirected.
	Bulk bool
	// Idle says why not one byte is redirected; else at least one must be.
	Idle string
	// Yields says why a guard may leave this flow to TCP.
	Yields string
	// Needs are programs that it starts.
	Needs []Program
	// Limit bounds the case, instead of the runner's limit.
	Limit time.Duration
}

// A Program is a file to find in PATH, and the Debian package that has it.
type Program struct{ Name, Package string }

// AtOnce is the end of the name of a case in which the program does from its first
// call on what it does later, when redirected bytes wait already, in the case
// without.
const AtOnce = "-from-the-start"

// Expand adds the variants that the cases ask for.
func Expand(cases []Case) (all []Case) {
	for _, c := range cases {
		all = append(all, c)
		if c.AlsoBlocking {
			// A guard may leave its bytes to TCP.
			v := c
			v.Name, v.Blocking, v.Bulk = c.Name+"-blocking", true, false
			all = append(all, v)
		}
		if c.AlsoAtOnce {
			v := c
			v.Name, v.Fresh = c.Name+AtOnce, true
			all = append(all, v)
		}
	}
	return all
}

// Family is the first part of the name.
func (c Case) Family() string {
	family, _, _ := strings.Cut(c.Name, "/")
	return family
}

// An Observation is something that an application can see.
type Observation struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Stream: the value stands for all bytes that were received, so a
	// difference is a loss.
	Stream bool `json:"stream,omitempty"`
}

// A Difference is an observation that is not the same on both sides. What one
// side does not have is empty.
type Difference struct {
	Name        string `json:"name"`
	Plain       string `json:"plain"`
	Accelerated string `json:"accelerated"`
	Stream      bool   `json:"stream,omitempty"`
}

// compare matches by name, and the n-th of a name with the n-th: a case may go
// another way after what it has seen, and the rest must not be compared with
// something else.
func compare(plain, accelerated []Observation) (diffs []Difference) {
	type key struct {
		name string
		n    int
	}
	number := func(list []Observation) (keys []key, values map[key]Observation) {
		count := map[string]int{}
		values = map[key]Observation{}
		for _, o := range list {
			k := key{o.Name, count[o.Name]}
			count[o.Name]++
			keys, values[k] = append(keys, k), o
		}
		return keys, values
	}
	keys, ps := number(plain)
	more, as := number(accelerated)
	for _, k := range more {
		if _, ok := ps[k]; !ok {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		p, a := ps[k], as[k]
		if p != a {
			// Where one side has nothing, another difference is the reason.
			both := p.Stream && a.Stream
			diffs = append(diffs, Difference{Name: k.name, Plain: p.Value, Accelerated: a.Value, Stream: both})
		}
	}
	return diffs
}

// endOfStream is how the Ret of a receiving call prints that says the end.
const endOfStream = `0 ""`

// blocks is the value of a call that waited as long as it was allowed to.
const blocks = "blocks"

// hangs: something waits in vain that did not on plain TCP.
func hangs(diffs []Difference) bool {
	for _, d := range diffs {
		if strings.Contains(d.Accelerated, blocks) && !strings.Contains(d.Plain, blocks) {
			return true
		}
	}
	return false
}

// loses: bytes are missing or wrong, and not only late, or said to be missing by
// an error.
func loses(diffs []Difference) bool {
	for _, d := range diffs {
		late := strings.Contains(d.Accelerated, blocks)
		_, end, ended := strings.Cut(d.Accelerated, early)
		failed := ended && end != endOfStream
		if d.Stream && !late && !failed {
			return true
		}
	}
	return false
}
