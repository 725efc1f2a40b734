// SPDX-License-Identifier: Apache-2.0

// Conformance finds the differences that an accelerated application sees: it runs
// each case of the socket API on plain TCP and accelerated, and compares.
//
//	conformance -list
//	conformance -place loopback -run '^recv/' -v
//	conformance -place pods -json result.json
//
// It needs root and a cgroup2 mount; all places but loopback also the CNI
// plugins. It fails if a case has an unknown difference, or one that is worse than
// known.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/cases"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
)

func main() {
	probe.Main()
	place.RunMaker()
	cases.RunChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	place.Options
	kind, json              string
	cases                   []suite.Case
	list, control, programs bool
	verbose                 bool
	parallel                int
	scale                   float64
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.StringVar(&o.kind, "place", "loopback", "kind of `ends`: "+strings.Join(place.Names(), ", "))
	pattern := f.String("run", "", "only cases whose names this `expression` matches")
	f.StringVar(&o.json, "json", "",
		"write the report to this `file`, in whose name variables of the environment are replaced")
	f.BoolVar(&o.list, "list", false, "print the names of the cases, and run none")
	f.BoolVar(&o.programs, "programs", true,
		"run the cases that need programs, which fail where these are missing")
	f.BoolVar(&o.Guards, "guards", true, "run guards, as far as the kernel loads them")
	f.BoolVar(&o.AcceptHazards, "accept-hazards", true, "accelerate in spite of the kernel's hazards")
	f.BoolVar(&o.control, "control", false, "compare plain TCP with plain TCP: nothing may differ")
	f.IntVar(&o.parallel, "parallel", 4, "cases at a time")
	f.Float64Var(&o.scale, "scale", 1, "stretch all times by this `factor`, on slow machines")
	f.StringVar(&o.BinDir, "bin", "", "`directory` with the CNI plugins (default: built)")
	f.BoolVar(&o.verbose, "v", false, "print every case, and every difference")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.Log = os.Stderr
	match, err := regexp.Compile(*pattern)
	if err != nil {
		return o, fmt.Errorf("parse -run: %w", err)
	}
	all := cases.Kernel()
	if o.programs {
		all = append(all, cases.Programs()...)
	}
	for _, c := range all {
		if match.MatchString(c.Name) {
			o.cases = append(o.cases, c)
		}
	}
	return o, nil
}

func run(ctx context.Context, out io.Writer, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.list {
		for _, c := range o.cases {
			fmt.Fprintln(out, c.Name)
		}
		return nil
	}
	site, err := place.Open(ctx, o.kind, o.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	runner := suite.Runner{
		Site: site, Workers: o.parallel, Scale: o.scale, Control: o.control, Accepted: o.AcceptHazards,
		Done: func(r suite.Result) {
			if o.verbose {
				printResult(out, r)
			}
		},
	}
	report, err := runner.Run(ctx, o.cases)
	if err != nil {
		return err
	}
	known.Explain(report)
	if o.json != "" {
		if err := write(o.json, report); err != nil {
			return err
		}
	}
	return summarize(out, report)
}

func write(path string, report *suite.Report) error {
	f, err := os.Create(os.ExpandEnv(path))
	if err != nil {
		return fmt.Errorf("make report: %w", err)
	}
	return errors.Join(report.WriteReport(f), f.Close())
}

func printResult(out io.Writer, r suite.Result) {
	notes := []string{}
	for _, n := range []struct {
		is   bool
		text string
	}{
		{r.Unengaged, "nothing redirected"}, {r.Hangs, "hangs"}, {r.Loses, "loses data"}, {r.Error != "", r.Error},
	} {
		if n.is {
			notes = append(notes, n.text)
		}
	}
	fmt.Fprintf(out, "%-8s %-44s %5d %5d ms %9d redirected %9d over TCP  %s\n", r.Verdict, r.Name,
		r.PlainMillis, r.AcceleratedMillis, r.Carried.Redirected, r.Carried.TCP, strings.Join(notes, ", "))
	for _, d := range r.Differences {
		fmt.Fprintf(out, "         %s: plain %q, accelerated %q\n", d.Name, d.Plain, d.Accelerated)
	}
}

// errFailed is for failures that have been printed.
var errFailed = errors.New("there are unknown differences")

func summarize(out io.Writer, r *suite.Report) error {
	bulk := r.Bulk()
	guards := "no guards"
	if len(r.Guards) > 0 {
		guards = "guards " + strings.Join(r.Guards, ", ")
	}
	fmt.Fprintf(out, "%s, %s, %s: %d cases in %.0f s, %d same, %d differ, %d unsteady, %d broken\n", r.Kernel,
		r.Site, guards,
		len(r.Cases), r.Seconds, r.Count(suite.Same), r.Count(suite.Differs), r.Count(suite.Unsteady),
		r.Count(suite.Broken))
	if all := bulk.Redirected + bulk.TCP; all > 0 {
		fmt.Fprintf(out, "%.1f %% of %d MiB of bulk traffic was redirected\n",
			100*float64(bulk.Redirected)/float64(all), all>>20)
	}
	for effect, n := range effects(r) {
		fmt.Fprintf(out, "%4d %s\n", n, effect)
	}
	printTallies(out, known.Tallies(r))
	failures := known.Failures(r)
	for _, f := range failures {
		fmt.Fprintln(out, "FAIL", f)
	}
	if len(failures) > 0 {
		return errFailed
	}
	return nil
}

// printTallies prints the reasons of differences, without refusals.
func printTallies(out io.Writer, all []known.Tally) {
	for _, refusals := range []bool{false, true} {
		title := "differences besides refusals"
		if refusals {
			title = "refusals, for which programs have a fallback"
		}
		cases, reasons := known.Sum(all, refusals)
		fmt.Fprintf(out, "%s: %d by %d reasons\n", title, cases, reasons)
		for _, t := range all {
			if t.Refusal == refusals {
				fmt.Fprintf(out, "%4d %-20s %s\n", t.Cases, cmp.Or(t.Reason, "unknown"), t.Effect)
			}
		}
	}
}

// effects yields the number of differences with each effect, the worst last.
func effects(r *suite.Report) func(func(known.Effect, int) bool) {
	return func(yield func(known.Effect, int) bool) {
		for _, e := range []known.Effect{known.Harmless, known.Visible, known.Fails, known.Hangs, known.Loses} {
			n := 0
			for _, c := range r.Cases {
				if c.Effect == string(e) {
					n++
				}
			}
			if n > 0 && !yield(e, n) {
				return
			}
		}
	}
}
