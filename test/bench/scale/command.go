// SPDX-License-Identifier: Apache-2.0

// Package scale measures what grows with the number of flows and of containers: latency, set-up, memory and
// listing among many idle flows, a full map, a full node, and the cost of ADD and DEL.
//
// It writes results to .cache/bench/scale.json, see package result. It runs in its own namespaces and
// cgroups, and removes them, on Ctrl-C too.
package scale

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
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/bench/table"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// limit is for a machine that is a few times slower than usual.
const limit = 40 * time.Minute

// Run measures as the flags in args ask for, and writes tables to standard output.
func Run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	quick := f.Bool("quick", false,
		"fewer, shorter rounds, and no 100k flows: a test that everything works, without meaningful numbers")
	pick := f.String("run", "", "measure only what matches this `regexp`: "+names(full))
	out := f.String("o", "",
		"write the results to this `file`; default .cache/bench/scale.json, or none with -run")
	cpu := f.Int("cpu", runtime.NumCPU()-1, "`number` of the CPU for everything that is measured alone")
	rounds := f.Int("rounds", 0, "`rounds` at each number of flows; 0: the default")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("arguments %q: there are none, only flags", f.Args())
	}
	selected, err := regexp.Compile(*pick)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	s := &suite{sizes: full, cpu: *cpu}
	if *quick {
		s.sizes = short
	}
	for i := range s.sizes.levels {
		if *rounds > 0 {
			s.sizes.levels[i].rounds = *rounds
		}
	}
	return s.run(ctx, selected, *pick != "", *out)
}

// suite is one run.
type suite struct {
	sizes sizes
	cpu   int
	bin   string // directory of the plugins
	log   bytes.Buffer
}

func (s *suite) run(ctx context.Context, selected *regexp.Regexp, some bool, out string) (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	// Remove what a killed run has left. Nodes in use are kept.
	if err := lab.Reap("bench"); err != nil {
		return err
	}
	s.bin = filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, s.bin); err != nil {
		return err
	}
	if out == "" && !some {
		out = filepath.Join(root, ".cache", "bench", "scale.json")
	}
	f := result.File{Suite: "scale " + s.sizes.name, Version: version.String(), Started: time.Now().UTC()}
	if f.Machine, err = s.machine(ctx); err != nil {
		return err
	}
	var errs []error
	for _, sec := range s.sizes.sections() {
		if !selected.MatchString(sec.name) || ctx.Err() != nil {
			continue
		}
		start := time.Now()
		s.log.Reset()
		cells, err := sec.measure(ctx, s)
		f.Cells = append(f.Cells, cells...)
		fmt.Printf("%s (%v)\n", sec.name, time.Since(start).Round(100*time.Millisecond))
		if err := table.Print(os.Stdout, cells); err != nil {
			return err
		}
		if err != nil && ctx.Err() == nil { // an error after an interruption is not the cause
			errs = append(errs, fmt.Errorf("%s: %w\n%s", sec.name, err, tail(s.log.Bytes())))
		}
	}
	f.Took = time.Since(f.Started)
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	} else if out != "" && len(f.Cells) > 0 {
		errs = append(errs, f.Write(out))
		fmt.Printf("results are in %s\n", out)
	}
	return errors.Join(append(errs, residue())...)
}

// tail is the end of the plugins' messages.
func tail(log []byte) []byte { return log[max(0, len(log)-2000):] }

func residue() error {
	left, err := lab.Residue(pods.NodeName())
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	return nil
}

// names lists the sections.
func names(z sizes) string {
	var all []string
	for _, sec := range z.sections() {
		all = append(all, sec.name)
	}
	return fmt.Sprintf("%q", slices.Clip(all))
}
