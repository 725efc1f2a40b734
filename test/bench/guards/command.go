// SPDX-License-Identifier: Apache-2.0

// Package guards measures the cost of the guards: the time of one system call on sockets, pipes and files,
// without the data path, with it and no guard, and with each guard alone and all together, in turn in one
// run. It lists the guards that the kernel refused.
//
// Where the clock counts instructions (go run ./test/vm run -icount), a nanosecond is an instruction.
package guards

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Main measures and does not return, in a process that a measurement has started.
func Main() {
	batches := os.Getenv(childVariable)
	if batches == "" {
		return
	}
	n, err := strconv.Atoi(batches)
	if err == nil {
		err = measure(os.Stdout, n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guards:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run measures as the flags in args ask for, and writes a table to standard output.
func Run(_ context.Context, args []string) error {
	f := flag.NewFlagSet("bench guards", flag.ContinueOnError)
	rounds := f.Int("rounds", 7, "`rounds`; each loads and measures every setup once")
	batches := f.Int("batches", 200, "`batches` of 64 calls of each kind in a round")
	file := f.String("json", "", "write the report to this `file`, too; $VM_OUT is expanded")
	stats := f.Bool("stats", true,
		"the kernel's own run times of the programs, from one more round that is not compared")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *rounds < 1 || *batches < 1 || f.NArg() > 0 {
		return fmt.Errorf("-rounds %d, -batches %d, arguments %q: numbers from 1 are needed, and no arguments",
			*rounds, *batches, f.Args())
	}
	return run(*rounds, *batches, *stats, *file)
}

// report is the JSON of -json.
type report struct {
	Release  string                `json:"kernel"`
	Rounds   int                   `json:"rounds"`
	Refused  []datapath.GuardState `json:"refused,omitempty"` // guards that this kernel refused
	Calls    []string              `json:"calls"`
	Columns  []column              `json:"columns"`
	Programs []program             `json:"programs,omitempty"`
}

// column is one setup: nanoseconds of each call, by round.
type column struct {
	Setup string               `json:"setup"`
	Nanos map[string][]float64 `json:"nanoseconds"`
}

func run(rounds, batches int, stats bool, file string) (err error) {
	n, err := openNode(batches)
	defer func() { err = errors.Join(err, n.Close()) }()
	if err != nil {
		return err
	}
	r := report{Rounds: rounds, Calls: callNames}
	if r.Release, err = release(); err != nil {
		return err
	}
	if r.Refused, err = n.refused(); err != nil {
		return err
	}
	setups := setupsFor(r.Refused)
	for _, s := range setups {
		r.Columns = append(r.Columns, column{s.name, map[string][]float64{}})
	}
	for range rounds {
		for i, s := range setups {
			nanos, err := n.measure(s)
			if err != nil {
				return fmt.Errorf("setup %s: %w", s.name, err)
			}
			for call, ns := range nanos {
				r.Columns[i].Nanos[call] = append(r.Columns[i].Nanos[call], ns)
			}
		}
	}
	if stats {
		if r.Programs, err = n.runTimes(setups[len(setups)-1]); err != nil {
			return err
		}
	}
	r.print(os.Stdout)
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(os.ExpandEnv(file), append(text, '\n'), 0o644)
}
