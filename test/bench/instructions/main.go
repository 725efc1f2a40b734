// SPDX-License-Identifier: Apache-2.0

// Command instructions tells how many instructions a request takes on Debian's kernels, with all guards that they run: plain
// TCP against sockmap. What is measured is measured by the commands micro and programs, in guests whose clock counts
// instructions; make bench-instructions has the whole sequence.
//
//	instructions build                        the plugins, for the guests' image
//	instructions keep DIRECTORY               takes what test/vm has left there into results/, one file for each kernel
//	instructions table -into docs/PERFORMANCE.md   writes the table of what is in results/
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

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

var section = marked.Section{Name: "instructions", Target: "bench-instructions"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "instructions:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	kept := filepath.Join(root, "test", "bench", "instructions", "results")
	switch {
	case len(args) == 1 && args[0] == "build":
		return lab.BuildPlugins(ctx, filepath.Join(root, ".cache", "lab"))
	case len(args) == 2 && args[0] == "keep":
		return keep(args[1], kept)
	case len(args) > 0 && args[0] == "table":
		return writeTable(out, kept, args[1:])
	}
	return errors.New("what to do? (build, keep DIRECTORY, or table [-into DOCUMENT])")
}

func writeTable(out io.Writer, kept string, args []string) error {
	f := flag.NewFlagSet("instructions table", flag.ContinueOnError)
	into := f.String("into", "", "replace the table of this `document` (default: print it)")
	if err := f.Parse(args); err != nil {
		return err
	}
	files, err := load(kept)
	if err != nil {
		return err
	}
	text := table(files)
	if *into == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	return section.Into(*into, text)
}

// kernelFile is what one kernel's guest has measured.
type kernelFile struct {
	name string // of the kernel, as in test/vm/kernels.txt
	result.File
}
