// SPDX-License-Identifier: Apache-2.0

// Package programs measures how much sockmap speeds up real programs: redis, nginx, PostgreSQL, memcached,
// HAProxy, gRPC. Each server is in a container and its client in another of the same node, with the conflist
// of conf/, without sockmap in the chain and with it, in turn. It writes .cache/bench/programs.json.
//
// A run in which a request fails, or an answer is wrong, is an error and no sample.
package programs

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/bench/table"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// Servers always run on serverCPU. In the main comparison clients run there, too, because a wake-up on
// another CPU of a virtual machine costs more than all of TCP's work. Some cells are also measured with the
// client on otherCPU.
var (
	serverCPU = 1
	otherCPU  = 0
)

// limit bounds everything except the build.
const limit = 30 * time.Minute

type options struct {
	quick    bool
	rounds   int
	duration time.Duration
	run      *regexp.Regexp
	file     string

	instructions bool   // instead of rates: see instructions.go
	bare         bool   // plain TCP only, on a node without sockmap
	bin          string // the plugins, built already
}

// Run measures as the flags in args ask for, and writes a table to standard output.
func Run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	return run(ctx, o)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench programs", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false,
		"fewer and shorter runs, all on one CPU: about a minute instead of seven")
	f.IntVar(&o.rounds, "rounds", 0,
		"rounds; each measures every cell once without and once with sockmap (5, with -quick 3)")
	f.DurationVar(&o.duration, "duration", 0, "duration of each run of a client (1.3s, with -quick 400ms)")
	f.BoolVar(&o.instructions, "instructions", false,
		"count instructions, in a guest whose clock counts them (test/vm run -icount)")
	f.BoolVar(&o.bare, "bare", false,
		"with -instructions: plain TCP on a node where no pod has sockmap, and no guard runs")
	f.StringVar(&o.bin, "bin", "", "`directory` of the plugins; empty: they are built")
	pattern := f.String("run", "",
		"only cells whose name, with \" (same)\" or \" (two)\" for the CPUs, matches this `regexp`")
	f.StringVar(&o.file, "o", "",
		"write the results to this `file` (.cache/bench/programs.json in the repository)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("arguments %q: there are none, only flags", f.Args())
	}
	if o.run, err = regexp.Compile(*pattern); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	rounds, duration := 5, 1300*time.Millisecond
	if o.quick {
		rounds, duration = 3, 400*time.Millisecond
	}
	if o.instructions {
		rounds, duration, serverCPU = 5, countedTime, otherCPU // there is only one
		if o.bare {
			variants = variants[:1] // plain
		}
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.duration == 0 {
		o.duration = duration
	}
	if o.rounds < 1 || o.rounds > 100 || o.duration < 100*time.Millisecond || o.duration > time.Minute {
		return o, errors.New("-rounds are 1 to 100, -duration is 100ms to 1m")
	}
	if runtime.NumCPU() <= max(serverCPU, otherCPU) {
		return o, fmt.Errorf("CPUs %d and %d are needed, and this process may use %d only", otherCPU, serverCPU,
			runtime.NumCPU())
	}
	if o.file == "" {
		root, err := lab.RepoRoot()
		if err != nil {
			return o, err
		}
		o.file = filepath.Join(root, ".cache", "bench", "programs.json")
	}
	return o, nil
}

// run writes the results that it could measure, even if some could not be measured.
func run(ctx context.Context, o options) (err error) {
	selected := o.selected()
	if len(selected) == 0 {
		return fmt.Errorf("-run %s: no cell has such a name", o.run)
	}
	done, err := pods.Watch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	var log bytes.Buffer // messages of the plugins: printed only after an error
	node, err := pods.NodeOf(ctx, o.bin, &log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// This process does little meanwhile, but it must not run on the CPU of the servers.
	if err := wire.PinProcess(0, otherCPU); err != nil {
		return err
	}
	started := time.Now()
	b, err := newBench(ctx, node, o)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	cells, failed := b.all(ctx, selected)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted, nothing is written: %w", context.Cause(ctx))
	}
	return errors.Join(failed, b.report(cells, started))
}

func (b *bench) report(cells []result.Cell, started time.Time) error {
	guards, err := b.guards()
	if err != nil {
		return err
	}
	machine, err := result.ThisMachine(guards)
	if err != nil {
		return err
	}
	f := result.File{Suite: "programs full", Version: version.String(), Started: started,
		Took: time.Since(started), Machine: machine, Cells: cells}
	if b.options.quick {
		f.Suite = "programs quick"
	}
	if b.options.instructions {
		f.Suite = "programs instructions"
	}
	if err := f.Write(os.ExpandEnv(b.options.file)); err != nil {
		return err
	}
	if err := table.Head(os.Stdout, f); err != nil {
		return err
	}
	return table.Print(os.Stdout, f.Cells)
}
