// SPDX-License-Identifier: Apache-2.0

// Programs runs unmodified clients and servers, each in its own pod, with sockmap's default configuration. It
// reports for each end which share of the received bytes was redirected, and why not more. It checks the data
// that clients receive in each run. A failed case is repeated on plain TCP: a failure there is a fault of the
// test.
//
//	programs build                       build the plugins and a peer for the guests' image
//	programs run -json FILE [-all] [-run REGEXP]
//	programs keep DIRECTORY...           copy the results of test/vm's guests to test/programs/results
//	programs table -into docs/PROGRAMS.md
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

func main() {
	probe.Main()
	pods.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "programs:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, out io.Writer, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "build":
			return build(ctx)
		case "run":
			return runCommand(ctx, out, args[1:])
		case "keep":
			return keepCommand(ctx, args[1:])
		case "table":
			return tableCommand(out, args[1:])
		case "go-serve":
			return goServe(args[1:])
		case "go-get":
			return goGet(ctx, out, args[1:])
		}
	}
	return errors.New("a command is needed: build, run, keep, or table")
}

// build puts the programs for a guest, which has no compiler, into .cache/lab.
func build(ctx context.Context) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	return lab.BuildModule(ctx, bin, "test/bench", "./programs/peer")
}

func runCommand(ctx context.Context, out io.Writer, args []string) (err error) {
	f := flag.NewFlagSet("programs run", flag.ContinueOnError)
	file := f.String("json", "",
		"write the report to this `file`, in whose name variables of the environment are replaced")
	pattern := f.String("run", "", "only cases whose names this `regexp` matches")
	o := options{out: out}
	f.StringVar(&o.bin, "bin", "", "`directory` of the plugins (default: they are built)")
	f.BoolVar(&o.all, "all", false, "those that take long, too")
	f.BoolVar(&o.acceptHazards, "accept-hazards", false, "accept the kernel's hazards, for experiments")
	f.BoolVar(&o.verbose, "v", false, "print the output of programs")
	if err := f.Parse(args); err != nil {
		return err
	}
	match, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	for _, c := range cases() {
		if match.MatchString(c.name) && (o.all || !c.slow) {
			o.cases = append(o.cases, c)
		}
	}
	o.file = os.ExpandEnv(*file)
	report, err := run(ctx, o)
	if err != nil {
		return err
	}
	return report.verdict(out)
}
