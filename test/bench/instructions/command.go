// SPDX-License-Identifier: Apache-2.0

// Package instructions shows how many instructions a request takes on Debian's kernels, with all guards that
// run there: plain TCP against sockmap. The packages micro and programs measure it, in guests whose clock
// counts instructions; make bench-instructions runs the whole sequence.
//
//	bench instructions build                             builds the plugins for the guests' image
//
// bench instructions keep DIRECTORY copies results of test/vm to results/, a file per kernel
//
//	bench instructions table -into docs/PERFORMANCE.md   writes the table of the files in results/
package instructions

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

const usage = `Usage of bench instructions:
  build                   build the plugins, for the image of the guests
  keep DIRECTORY          copy the results that test/vm has left there into test/bench/instructions/results
  table [-into DOCUMENT]  write the table of these results, into the document or to standard output
`

var section = marked.Section{Name: "instructions", Target: "bench-instructions"}

// Run runs one of the three commands, as args say.
func Run(ctx context.Context, args []string) error { return run(ctx, os.Stdout, args) }

func run(ctx context.Context, out io.Writer, args []string) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	kept := filepath.Join(root, "test", "bench", "instructions", "results")
	switch {
	case len(args) == 1 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]):
		_, err := io.WriteString(out, usage)
		return err
	case len(args) == 1 && args[0] == "build":
		return lab.BuildPlugins(ctx, filepath.Join(root, ".cache", "lab"))
	case len(args) == 2 && args[0] == "keep":
		return keep(args[1], kept)
	case len(args) > 0 && args[0] == "table":
		return writeTable(out, kept, args[1:])
	}
	return fmt.Errorf("arguments %q: want build, keep DIRECTORY, or table [-into DOCUMENT]", args)
}

func writeTable(out io.Writer, kept string, args []string) error {
	f := flag.NewFlagSet("bench instructions table", flag.ContinueOnError)
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

// kernelFile has the results of one kernel's guest.
type kernelFile struct {
	name string // name of the kernel in test/vm/kernels.txt
	result.File
}
