// SPDX-License-Identifier: Apache-2.0

// Package micro measures the path through the kernel between two sockets, with sockmap and without. The
// programs at both ends do as little as possible, see package wire. It writes every sample to a file, for the
// report.
//
// # Variants
//
// The variants are those of package result. Plain, sockmap and classic are pairs of containers on one node,
// each pair with its own network. Loopback and unix are two processes in one container of the plain network.
//
// Kept is the pair of sockmap again, with SO_PEEK_OFF set on both sockets before they connect. The option
// sets where MSG_PEEK begins, and MSG_PEEK is not used here, so the traffic is the same. But the option would
// not apply to redirected bytes, so the verdict runs for each message, goes through nearly all of its
// questions and passes the message to TCP. Kept is therefore the cost of being in a sockmap without a gain.
// Kernels before 6.9 do not know the option for TCP; kept is not measured there, see the notes.
//
// Off is the pair of sockmap while the kill switch is on, so that its programs are called and return at once.
// Twin is the pair of plain once more. These two are compared with traffic that is not accelerated, where one
// percent matters.
//
// # Rounds
//
// In each round every variant of a cell is measured, one right after the other, in an order that changes from
// round to round; the samples of one round belong together. A round in which one variant fails does not
// count. For accelerated variants, the share of redirected bytes is measured as well.
//
// TCP uses cubic everywhere, which is the default of Linux. A default that paces, as bbr does, makes plain
// TCP slower on interfaces without a rate, and everything that avoids TCP would look better than it is.
//
// # Other uses
//
// With -check it fails if traffic is slower than plain TCP: see check.go, and floors.go for the cells. With
// -instructions it counts instructions, in a guest: see package instructions.
package micro

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/bench/table"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

type options struct {
	pace
	suite string
	match *regexp.Regexp
	out   string

	congestion string
	only       []string // variants

	instructions bool   // instead of times: see instructions.go
	bare         bool   // plain TCP only, on a node without sockmap
	bin          string // the plugins, built already

	check bool          // see check.go
	spin  time.Duration // delay of sockmap's server, to see that the check fails
}

// Run measures as the flags in args ask for, and writes a table to standard output.
func Run(ctx context.Context, args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	return run(ctx, o, os.Stdout, os.Stderr)
}

func parseFlags(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench micro", flag.ContinueOnError)
	fast := f.Bool("quick", false, "fewer rounds, and shorter ones: less than 80 seconds instead of 7 minutes")
	rounds := f.Int("rounds", 0, "`number` of rounds (default: 8, with -quick 5)")
	match := f.String("run", "", "only what matches this regular `expression`: group/name")
	f.StringVar(&o.congestion, "congestion", "cubic",
		"`name` of TCP's congestion control, for all variants; empty: the kernel's default")
	f.Func("only", "these `variants`, separated by commas: for a profile of one, say", func(v string) error {
		o.only = strings.Split(v, ",")
		return nil
	})
	f.BoolVar(&o.instructions, "instructions", false,
		"count instructions, in a guest whose clock counts them (test/vm run -icount)")
	f.BoolVar(&o.check, "check", false, "fail if traffic is slower than plain TCP: two minutes")
	f.DurationVar(&o.spin, "slow-down", 0,
		"compute for so `long` before each answer by sockmap, and after each read; -check must find it")
	f.BoolVar(&o.bare, "bare", false,
		"with -instructions: plain TCP on a node where no pod has sockmap, and no guard runs")
	f.StringVar(&o.bin, "bin", "", "`directory` of the plugins; empty: they are built")
	f.StringVar(&o.out, "o", ".cache/bench/micro.json", "write results to this `file`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.pace, o.suite = full, "micro full"
	if *fast {
		o.pace, o.suite = quick, "micro quick"
	}
	if o.instructions {
		o.pace, o.suite = brief, "micro instructions"
	}
	if o.check {
		o.pace, o.suite = checkPace, "micro check"
	}
	if *rounds < 0 || *rounds > 1000 || f.NArg() > 0 {
		return o, fmt.Errorf("-rounds %d, arguments %q: up to 1000 rounds, and no arguments", *rounds, f.Args())
	}
	if *rounds > 0 {
		o.rounds, o.budget = *rounds, 0
	}
	if o.match, err = regexp.Compile(*match); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	return o, nil
}

func run(ctx context.Context, o options, out, log io.Writer) (err error) {
	works := o.works()
	if len(works) == 0 {
		return fmt.Errorf("-run %q matches nothing", o.match)
	}
	started := time.Now()
	fmt.Fprintln(log, "building the plugins, and making containers")
	done, err := pods.Watch()
	if err != nil {
		return err
	}
	var complaints bytes.Buffer // messages of the plugins: printed only after an error
	w, err := newWorld(ctx, o, &complaints)
	if err != nil {
		return errors.Join(err, done(), errors.New(complaints.String()))
	}
	defer func() { err = errors.Join(err, w.close(), done()) }()
	guards, err := w.guards()
	if err != nil {
		return err
	}
	if o.check {
		return check(ctx, w, works, out, log)
	}
	cells, err := measureAll(ctx, w, works, limit{o.rounds, started, o.budget}, log)
	if ctx.Err() != nil { // an error after an interruption is not the cause
		err = errors.New("interrupted: no results are written")
	}
	if err != nil {
		return err
	}
	machine, err := result.ThisMachine(guards)
	if err != nil {
		return err
	}
	file := result.File{
		Suite: o.suite, Version: version.String(), Started: started.Round(time.Second), Took: time.Since(started),
		Machine: machine, Cells: cells,
	}
	if err := file.Write(os.ExpandEnv(o.out)); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := table.Head(out, file); err != nil {
		return err
	}
	return table.Print(out, file.Cells)
}
