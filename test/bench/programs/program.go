// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"slices"
	"time"
)

// program has its servers and their measurements.
type program struct {
	name string
	// apart: it gets its own containers, because it changes the path of all traffic there.
	apart bool
	// start starts the servers in the containers of a side. They are stopped after the cells of the program.
	start func(ctx context.Context, s *side) error
	// check checks that the servers answer correctly. Before the measurement it is called until it succeeds,
	// after it once.
	check func(ctx context.Context, s *side) error
	cells []cell
}

// cell is one way to use a program.
type cell struct {
	name string
	goal float64 // goal of the rate on one CPU
	note string
	two  bool // also measured with the client on its own CPU
	// client runs the client for about the time of the load.
	client func(ctx context.Context, s *side, l load) (sample, error)
}

// load is the duration of a client's run. Some clients take a time, others a number of operations.
type load struct {
	cpu      int
	duration time.Duration
	count    int // operations that take about the duration, as far as known
}

// sample is the result of a run.
type sample struct {
	rate  float64       // operations in a second
	p99   time.Duration // p99 of an operation, 0: the tool does not report it
	count int           // operations
}

func programs() []program {
	return []program{redis(), nginx(), postgres(), grpc(), memcached(), proxies(), batches()}
}

// selectCells keeps the cells that match -run, and the programs that have such cells. With -quick, all run on
// one CPU unless -run asks for "(two)".
func selectCells(all []program, o options) (selected []selection) {
	for _, p := range all {
		s := selection{program: p}
		for _, c := range p.cells {
			for _, cpus := range []string{same, two} {
				m := &measurement{cell: c, cpus: cpus}
				wanted := cpus == same || c.two && (!o.quick || o.run.String() != "" &&
					!o.run.MatchString(c.name+" (same)"))
				if wanted && o.run.MatchString(m.String()) {
					s.measurements = append(s.measurements, m)
				}
			}
		}
		if len(s.measurements) > 0 {
			selected = append(selected, s)
		}
	}
	return slices.Clip(selected)
}
