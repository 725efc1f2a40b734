// SPDX-License-Identifier: Apache-2.0

// Package result is the format of the benchmarks' results: one JSON file with every sample in it, so that
// each number of docs/PERFORMANCE.md can be computed again from it.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Variant is one of the variants that are compared.
type Variant string

// The variants. All others are compared with Plain unless a cell has another base.
const (
	Plain    Variant = "plain"    // TCP over veth and bridge, the chain without sockmap
	Loopback Variant = "loopback" // TCP over loopback, inside one container
	Unix     Variant = "unix"     // a Unix stream socket
	Sockmap  Variant = "sockmap"  // the chain with sockmap
	Classic  Variant = "classic"  // the well-known sample: 4-tuple key, every socket inserted, no bounds
	Kept     Variant = "kept"     // the chain with sockmap, every message left to TCP by the verdict
	Off      Variant = "off"      // the chain with sockmap, switched off: programs that return immediately
	Twin     Variant = "twin"     // plain once more, in two other containers: how much equal variants differ
)

// Variants in the order of columns and legends.
var Variants = []Variant{Plain, Loopback, Unix, Sockmap, Kept, Off, Twin, Classic}

// Better is the direction in which a measure is better.
type Better string

// The two directions.
const (
	Lower  Better = "lower"  // times, costs
	Higher Better = "higher" // rates
)

// Cell is one measure of one kind of traffic. A sample is the result of one round. Sample i of all variants
// was taken in the same round, one right after the other.
type Cell struct {
	// rr, stream, connections, churn, offnode, cpu, memory, program, scale, add
	Group string `json:"group"`
	// unique within the group: "64 B", "redis GET -c 50"
	Name    string                `json:"name"`
	Measure string                `json:"measure"`        // p50, p99, p99.9, throughput, rate, cpu
	Unit    string                `json:"unit"`           // ns, B/s, 1/s, ns/request, B
	Better  Better                `json:"better"`         //
	CPUs    string                `json:"cpus,omitempty"` // "same" or "two" CPUs: where both ends ran
	Base    Variant               `json:"base,omitempty"` // the others are compared with it; empty: plain
	Samples map[Variant][]float64 `json:"samples"`        //
	// redirected bytes by application bytes, where redirecting is expected
	Share map[Variant]float64 `json:"share,omitempty"`
	Note  string              `json:"note,omitempty"` // for the reader: "-", errors, bounds
	Goal  float64             `json:"goal,omitempty"` // for the ratio of Sockmap against Base, 0: none
	// of Sockmap's own median in Unit, where the goal is no ratio: at most, or at least, as Better says; 0: none
	Limit   float64 `json:"limit,omitempty"`
	Repeats int     `json:"repeats,omitempty"` // operations behind each sample, about
}

// File is one run.
type File struct {
	Suite   string        `json:"suite"` // the selected suite: micro, programs, scale; quick or full
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took_ns"`
	Machine Machine       `json:"machine"`
	Cells   []Cell        `json:"cells"`
}

// Write replaces path atomically.
func (f File) Write(path string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// Read is the counterpart of Write.
func Read(path string) (f File, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("results %s: %w", path, err)
	}
	return f, nil
}
