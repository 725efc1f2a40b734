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
	// Serial: nothing else may run meanwhile, because it measures time.
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

// A Difference is an observation that is not the same on both sides. A list that
// ends early has empty values.
type Difference struct {
	Name        string `json:"name"`
	Plain       string `json:"plain"`
	Accelerated string `json:"accelerated"`
	Stream      bool   `json:"stream,omitempty"`
}

// compare matches by position: observations are in order.
func compare(plain, accelerated []Observation) (diffs []Difference) {
	for i := range max(len(plain), len(accelerated)) {
		var p, a Observation
		if i < len(plain) {
			p = plain[i]
		}
		if i < len(accelerated) {
			a = accelerated[i]
		}
		if p == a {
			continue
		}
		d := Difference{Name: p.Name, Plain: p.Value, Accelerated: a.Value, Stream: p.Stream || a.Stream}
		if d.Name == "" {
			d.Name = a.Name
		}
		diffs = append(diffs, d)
	}
	return diffs
}

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
		failed := strings.Contains(d.Accelerated, early+"E")
		if d.Stream && !late && !failed {
			return true
		}
	}
	return false
}
