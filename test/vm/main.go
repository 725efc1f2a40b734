// SPDX-License-Identifier: Apache-2.0

// Vm runs programs, mostly Go tests, under other kernels than this machine's. It boots Debian's kernels in
// QEMU's emulation, as many at a time as there are processors, and reports the results of each. This
// machine's own kernel is "host".
//
//	vm fetch                          get the kernels of kernels.txt, or newer versions of them
//	vm run                            run the programs of manifest.json under all of them
//	vm run -kernel 6.1 -- ./pkg/datapath -test.run=Order
//	vm keep .cache/vm/all             copy the results of kernels that run seldom to the repository
//	vm table -into docs/KERNELS.md    write the results of the manifest's last runs as a table
//
// Time measured in an emulated guest means nothing, except with -icount, where it is the number of
// instructions.
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
	"runtime"
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

// errFailed is the error of an outcome that is not OK; the report has the reasons.
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
		case "keep":
			return keep(out, args[1:])
		case "table":
			return writeTable(out, args[1:])
		}
	}
	return errors.New("a command is needed: fetch, run [-- PROGRAM ARGS...], keep DIRECTORY, or table")
}

// options are the flags of all commands, and the objects that they select.
type options struct {
	flags   *flag.FlagSet
	root    string
	cache   string
	names   string
	host    bool            // this machine's own kernel is among them
	all     []kernel.Wanted // the kernels of kernels.txt
	kernels []kernel.Wanted // the chosen ones
}

func newOptions(name string) *options {
	o := &options{flags: flag.NewFlagSet(name, flag.ContinueOnError)}
	o.flags.StringVar(&o.cache, "cache", "",
		"`directory` of kernels and results (default .cache/vm of the repository)")
	o.flags.StringVar(&o.names, "kernel", "", "`names` in kernels.txt, or host, separated by commas; or all "+
		"(default host, and those that run often)")
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
	if o.all, err = kernel.ParseList(strings.NewReader(kernelList)); err != nil {
		return err
	}
	o.kernels, o.host, err = choose(o.all, o.names)
	return err
}

// repository is the nearest parent directory with a go.mod.
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

// fetchLimit is for each kernel, of up to 100 MB.
const fetchLimit = 4 * time.Minute

func fetch(ctx context.Context, out io.Writer, args []string) error {
	o := newOptions("vm fetch")
	if err := o.parse(args); err != nil {
		return err
	}
	limit := fetchLimit * time.Duration(len(o.kernels))
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("over the limit of %v", limit))
	defer cancel()
	cache := kernel.Cache{Dir: o.cache}
	for _, w := range o.kernels {
		k, err := cache.Fetch(ctx, w)
		if err != nil {
			// Without a network, the cached kernel is used, although it may be outdated.
			cached, cacheErr := cache.Cached(w)
			if cacheErr != nil || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(out, "%v\nusing the cached kernel\n", err)
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
	o.flags.StringVar(&m.results, "out", "",
		"`directory` for logs and files (default in the cache: results, or one for a program that is given)")
	guests := o.flags.Bool("guests", false, "without this machine's kernel, which other groups of make test use")
	timeout := o.flags.Duration("timeout", 0, "limit of each program (default: the manifest's, or 10m)")
	o.flags.DurationVar(&m.boot, "boot-timeout", 2*time.Minute, "limit of a guest's boot")
	o.flags.IntVar(&m.jobs, "jobs", runtime.GOMAXPROCS(0), "guests at a time, of 2 GiB each")
	whole := o.flags.Bool("whole", false, "all of the programs that kernels.txt names a part of")
	left := o.flags.String("leave-out", "", "`KERNEL/PROGRAM` not to run; several are separated by commas")
	limit := o.flags.Duration("limit", 60*time.Minute, "limit of the whole run")
	o.flags.StringVar(&m.accel, "accel", "",
		"QEMU's `accelerator` (default emulation, by threads where QEMU can)")
	o.flags.BoolVar(&m.icount, "icount", false,
		"the guests' clocks count instructions, one for each nanosecond; one processor")
	if err := o.parse(args); err != nil {
		return err
	}
	m.repo, m.cache, m.kernels = o.root, kernel.Cache{Dir: o.cache}, o.kernels
	var err error
	if m.commit, err = commitOf(o.root); err != nil {
		return err
	}
	given := o.flags.NArg() > 0
	if m.results == "" && given {
		m.results = filepath.Join(o.cache, "one")
	} else if m.results == "" {
		m.results = o.results()
	}
	m.host = o.host && !*guests && (!given || o.names != "")
	if m.modules, err = kernel.ParseNames(strings.NewReader(moduleList)); err != nil {
		return err
	}
	if m.specs, err = programs(o, *manifest, *timeout); err != nil {
		return err
	}
	if given || *manifest != "" {
		// kernels.txt describes the results of the project's manifest only.
		for i := range m.kernels {
			m.kernels[i].Only = nil
		}
	}
	if *whole {
		wholes(m.kernels, m.specs)
	}
	if *left != "" {
		if err := without(m.kernels, *left); err != nil {
			return err
		}
	}
	if err := checkPrograms(m.kernels, m.specs); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *limit,
		fmt.Errorf("the whole run is over its limit of %v", *limit))
	defer cancel()
	outcomes, err := m.run(ctx)
	if err != nil {
		return err
	}
	report(out, outcomes)
	return verdict(outcomes)
}

// results is the directory of the results of the manifest's runs.
func (o *options) results() string { return filepath.Join(o.cache, "results") }

// programs are the program on the command line, or else those of the manifest.
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

// sayTo prints progress from several goroutines, line by line.
func sayTo(out io.Writer) func(format string, args ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
}
