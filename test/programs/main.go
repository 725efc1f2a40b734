// SPDX-License-Identifier: Apache-2.0

// Programs runs clients and servers as they are shipped, each in a pod of its own, with sockmap's default configuration, and
// tells for each end how much of what it received was redirected, and why not where it was not. What clients receive
// is checked each time. Where something fails, it is tried on plain TCP, too: what fails there is the test's own fault.
//
//	programs build                       the plugins and a peer, for the guests' image
//	programs run -json FILE [-all] [-run REGEXP]
//	programs keep DIRECTORY...           what test/vm's guests have left, as test/programs/results
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
	return errors.New("what to do? (build, run, keep, or table)")
}

// build puts into .cache/lab what a guest, which has no compiler, finds there.
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
	file := f.String("json", "", "write the report to this `file`, in whose name variables of the environment are replaced")
	pattern := f.String("run", "", "only cases whose names this `regexp` matches")
	o := options{out: out}
	f.StringVar(&o.bin, "bin", "", "`directory` of the plugins (default: they are built)")
	f.BoolVar(&o.all, "all", false, "those that take long, too")
	f.BoolVar(&o.acceptHazards, "accept-hazards", false, "accelerate whatever hazards the kernel has: not the default, for trying out")
	f.BoolVar(&o.verbose, "v", false, "print what programs say")
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
