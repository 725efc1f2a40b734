// SPDX-License-Identifier: Apache-2.0

// Report writes the results of the conformance suite as tables: a row for each case that differs, by reason.
//
//	report RESULT.json...
//	report -into docs/TRANSPARENCY.md .cache/vm/results
//
// A result is a file, or a directory with one below NAME/conformance for each kernel. With -into it replaces
// the text between two marked lines of a document.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	const need = "no result given (run conformance -json FILE)"
	return section.Report(out, args, need, func(names []string) (string, error) {
		var runs []Run
		for _, name := range names {
			found, err := find(name)
			if err != nil {
				return "", err
			}
			runs = append(runs, found...)
		}
		return Table(runs), nil
	})
}

// find returns the run of a file, named by its kernel, or the runs below a directory.
func find(name string) (runs []Run, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("find result: %w", err)
	}
	if !info.IsDir() {
		r, err := read(name)
		if err != nil {
			return nil, err
		}
		return []Run{{r.Kernel, r}}, nil
	}
	files, err := filepath.Glob(filepath.Join(name, "*", "conformance", "conformance.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("find results below %s: %d (make test-vm writes them)", name, len(files))
	}
	for _, file := range files {
		r, err := read(file)
		if err != nil {
			return nil, err
		}
		runs = append(runs, Run{filepath.Base(filepath.Dir(filepath.Dir(file))), r})
	}
	return runs, nil
}

func read(name string) (*suite.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open result: %w", err)
	}
	defer f.Close()
	r, err := suite.ReadReport(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
