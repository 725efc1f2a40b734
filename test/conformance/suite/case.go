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

	// Alone: the case makes its own connections and gets no pair.
	Alone bool
	// Fresh: no bytes were sent on the pair before, so that its first message is the case's. Otherwise a few
	// bytes were sent both ways before, enough for a direction that first observes its reader.
	Fresh bool
	// Blocking: the case is about a call that waits in the kernel, as in most simple programs. Otherwise
	// descriptors have O_NONBLOCK from their creation, and poll(2) waits, as in event-driven programs.
	Blocking bool
	// EventLoop: descriptors are in an epoll set from their creation, as in event loops.
	EventLoop bool
	// AlsoBlocking and AlsoAtOnce ask [Expand] for a variant that is Blocking, and for one that is Fresh; see
	// [AtOnce].
	AlsoBlocking, AlsoAtOnce bool
	// Serial: no other case may run meanwhile, because this one measures time, or turns a switch of the node.
	Serial bool
	// Bulk: the bytes of the case count for the share of redirected bytes.
	Bulk bool
	// Idle is why no byte is redirected. Without it at least one must be.
	Idle string
	// Yields is why a guard may keep this flow on TCP.
	Yields string
	// Needs are programs that the case starts.
	Needs []Program
	// Limit bounds the case, instead of the runner's limit.
	Limit time.Duration
}

// A Program is a file to find in PATH, and the Debian package that contains it.
type Program struct{ Name, Package string }

// AtOnce is the suffix of the name of a variant: the program's first calls are those that the case without
// the suffix makes later, when redirected bytes wait already.
const AtOnce = "-from-the-start"

// Expand adds the variants that the cases ask for.
func Expand(cases []Case) (all []Case) {
	for _, c := range cases {
		all = append(all, c)
		if c.AlsoBlocking {
			// A guard may keep its bytes on TCP.
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

// An Observation is a result that an application can see.
type Observation struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Stream: the value represents all bytes that were received, so a difference means missing or wrong
	// bytes.
	Stream bool `json:"stream,omitempty"`
}

// A Difference is an observation that differs between the two sides. The value of a side without the
// observation is empty.
type Difference struct {
	Name        string `json:"name"`
	Plain       string `json:"plain"`
	Accelerated string `json:"accelerated"`
	Stream      bool   `json:"stream,omitempty"`
}

// compare matches observations by name, and the n-th of a name with the n-th: a case may take another path
// after a difference, and its other observations must not be compared with the wrong ones.
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
			// If one side lacks the observation, another difference is the reason.
			both := p.Stream && a.Stream
			diffs = append(diffs, Difference{Name: k.name, Plain: p.Value, Accelerated: a.Value, Stream: both})
		}
	}
	return diffs
}

// endOfStream is the text of a receiving call's Ret at the end of the stream.
const endOfStream = `0 ""`

// blocks is the value of a call that waited for as long as it was allowed to.
const blocks = "blocks"

// hangs: a call waits for ever that did not on plain TCP.
func hangs(diffs []Difference) bool {
	for _, d := range diffs {
		if strings.Contains(d.Accelerated, blocks) && !strings.Contains(d.Plain, blocks) {
			return true
		}
	}
	return false
}

// loses: bytes are missing or wrong. It is false if they are only late, or if an error reports that they are
// missing.
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
