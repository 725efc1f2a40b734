// SPDX-License-Identifier: Apache-2.0

// Vm runs programs, Go tests above all, under other kernels than this machine's: it boots Debian's kernels in QEMU's
// emulation, two at a time, and reports for each what passed.
//
//	vm fetch                          get the kernels of kernels.txt, or newer versions of them
//	vm run                            run the programs of manifest.json under all of them
//	vm run -kernel 6.1 -- ./pkg/datapath -test.run=Order
//
// Time measured in an emulated guest means nothing.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

//go:embed kernels.txt
var kernelList string

//go:embed modules.txt
var moduleList string

// errFailed is for an outcome that is not OK; the report has said why.
var errFailed = errors.New("not everything passed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, out io.Writer, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "fetch":
			return fetch(ctx, out, args[1:])
		case "run":
			return run(ctx, out, args[1:])
		}
	}
	return errors.New("what to do? (fetch, or run [-- PROGRAM ARGS...])")
}

// options are the flags of both commands, and what they are about.
type options struct {
	flags   *flag.FlagSet
	root    string
	cache   string
	names   string
	kernels []kernel.Wanted
}

func newOptions(name string) *options {
	o := &options{flags: flag.NewFlagSet(name, flag.ContinueOnError)}
	o.flags.StringVar(&o.cache, "cache", "", "`directory` of kernels and results (default .cache/vm of the repository)")
	o.flags.StringVar(&o.names, "kernel", "", "`names` in kernels.txt, separated by commas (default all)")
	return o
}

func (o *options) parse(args []string) (err error) {
	if err := o.flags.Parse(args); err != nil {
		return err
	}
	if o.root, err = repository(); err != nil {
		return err
	}
	if o.cache == "" {
		o.cache = filepath.Join(o.root, ".cache", "vm")
	}
	all, err := kernel.ParseList(strings.NewReader(kernelList))
	if err != nil {
		return err
	}
	o.kernels, err = choose(all, o.names)
	return err
}

func choose(all []kernel.Wanted, names string) ([]kernel.Wanted, error) {
	if names == "" {
		return all, nil
	}
	var chosen []kernel.Wanted
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(w kernel.Wanted) bool { return w.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("find kernel %q: not in kernels.txt", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// repository is the nearest directory above with a go.mod.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: no go.mod at or above %s", start)
		}
	}
}

func fetch(ctx context.Context, out io.Writer, args []string) error {
	o := newOptions("vm fetch")
	if err := o.parse(args); err != nil {
		return err
	}
	cache := kernel.Cache{Dir: o.cache}
	for _, w := range o.kernels {
		k, err := cache.Fetch(ctx, w)
		if err != nil {
			// Without a network, yesterday's kernel is better than none.
			cached, cacheErr := cache.Cached(w)
			if cacheErr != nil || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(out, "%v\nusing the one from before\n", err)
			k = cached
		}
		fmt.Fprintf(out, "kernel %s: %s, package %s\n", k.Name, k.Release, k.Version)
	}
	return nil
}

func run(ctx context.Context, out io.Writer, args []string) error {
	o := newOptions("vm run")
	m := matrix{say: sayTo(out)}
	manifest := o.flags.String("manifest", "", "`file` with the programs (default test/vm/manifest.json)")
	results := o.flags.String("out", "", "`directory` for logs and files from the guests (default results in the cache)")
	jsonFile := o.flags.String("json", "", "write the outcomes to this `file`")
	tableFile := o.flags.String("table", "", "write the outcomes into the table of this `document`")
	limit := o.flags.Duration("timeout", 0, "limit of each program (default what the manifest says, or 10m)")
	o.flags.DurationVar(&m.boot, "boot-timeout", 2*time.Minute, "limit of a guest's boot")
	o.flags.IntVar(&m.jobs, "jobs", 2, "guests at a time, of 2 processors and 2 GiB each")
	o.flags.StringVar(&m.accel, "accel", "", "QEMU's `accelerator` (default emulation, by threads where QEMU can)")
	if err := o.parse(args); err != nil {
		return err
	}
	m.repo, m.cache, m.kernels = o.root, kernel.Cache{Dir: o.cache}, o.kernels
	if m.results = *results; m.results == "" {
		m.results = filepath.Join(o.cache, "results")
	}
	var err error
	if m.modules, err = kernel.ParseModules(strings.NewReader(moduleList)); err != nil {
		return err
	}
	if m.specs, err = programs(o, *manifest, *limit); err != nil {
		return err
	}
	outcomes, err := m.run(ctx)
	if err != nil {
		return err
	}
	report(out, outcomes)
	return errors.Join(verdict(outcomes), keep(outcomes, *jsonFile, *tableFile))
}

// programs are the one on the command line, or else those of the manifest.
func programs(o *options, manifest string, limit time.Duration) (all []spec, err error) {
	if words := o.flags.Args(); len(words) > 0 {
		s, err := commandSpec(o.root, words)
		if err != nil {
			return nil, err
		}
		all = []spec{s}
	} else {
		if manifest == "" {
			manifest = filepath.Join(o.root, "test", "vm", "manifest.json")
		}
		if all, err = readSpecs(manifest); err != nil {
			return nil, err
		}
	}
	for i := range all {
		if limit > 0 {
			all[i].Timeout = duration(limit)
		}
	}
	return all, nil
}

func verdict(outcomes []*outcome) error {
	for _, o := range outcomes {
		if !o.OK() {
			return errFailed
		}
	}
	return nil
}

func keep(outcomes []*outcome, jsonFile, tableFile string) error {
	var errs []error
	if jsonFile != "" {
		errs = append(errs, writeJSON(jsonFile, outcomes))
	}
	if tableFile != "" {
		errs = append(errs, updateTable(tableFile, outcomes))
	}
	return errors.Join(errs...)
}

// sayTo prints progress from several goroutines, line by line.
func sayTo(out io.Writer) func(format string, args ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
}
