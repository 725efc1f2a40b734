// SPDX-License-Identifier: Apache-2.0

// Command scale measures what grows with the number of flows and of containers: latency, set-up, memory and listing among many
// idle flows, a map that is full, a node that is full, and what ADD and DEL cost.
//
// It leaves results in .cache/bench/scale.json, see package result. Everything happens in namespaces and cgroups of its own.
// Nothing is left behind, on Ctrl-C neither.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/test/bench/crowd"
	"github.com/sockmap-cni/sockmap-cni/test/bench/pods"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/bench/table"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// limit is for a machine that is a few times slower than it should be.
const limit = 40 * time.Minute

func main() {
	crowd.Main()
	quick := flag.Bool("quick", false, "fewer, shorter rounds, and no 100k flows: shows that all works, its numbers mean little")
	pick := flag.String("run", "", "measure only what matches this `regexp`: "+names(full))
	out := flag.String("o", "", "write the results to this `file`; default .cache/bench/scale.json, or none with -run")
	cpu := flag.Int("cpu", runtime.NumCPU()-1, "where everything runs that is measured alone")
	rounds := flag.Int("rounds", 0, "rounds at each number of flows; 0: as many as it takes")
	flag.Parse()
	selected, err := regexp.Compile(*pick)
	if err != nil {
		fail(fmt.Errorf("-run: %w", err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	s := &suite{sizes: full, cpu: *cpu}
	if *quick {
		s.sizes = short
	}
	for i := range s.sizes.levels {
		if *rounds > 0 {
			s.sizes.levels[i].rounds = *rounds
		}
	}
	err = s.run(ctx, selected, *pick != "", *out)
	cancel()
	stop()
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "scale:", err)
	os.Exit(1)
}

// suite is one run.
type suite struct {
	sizes sizes
	cpu   int
	bin   string // of the plugins
	log   bytes.Buffer
}

func (s *suite) run(ctx context.Context, selected *regexp.Regexp, some bool, out string) (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	// Of a run that was killed: what is in use stays.
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
		if err != nil && ctx.Err() == nil { // what an interruption has broken is not the reason
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

// tail is what the plugins said last.
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
