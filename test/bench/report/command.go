// SPDX-License-Identifier: Apache-2.0

// Package report writes the results of the benchmarks as tables and pictures.
//
//	bench report .cache/bench
//	bench report -keep test/bench/results .cache/bench
//	bench report -into docs/PERFORMANCE.md -images docs/images test/bench/results
//	bench report -range README.md test/bench/results
//
// The first prints the tables. -keep adds the new results to those of their kind of machine. -into and -range
// replace the text between two marked lines of the document, with all tables or the short one, and -images
// the pictures.
//
// Results are kept with the benchmarks, in a directory for each kind of machine, with every sample. Tables
// and pictures of all machines can be made again wherever the repository is. A new run replaces those of its
// kind. The same results give the same text and the same pictures.
package report

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/report/picture"
	"github.com/sockmap-cni/sockmap-cni/test/bench/report/text"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

// The results are between the marked lines of the documents.
var (
	section = marked.Section{Name: "performance", Target: "bench-report"}
	short   = marked.Section{Name: "performance-range", Target: "bench-report"}
)

// Run writes what args say.
func Run(_ context.Context, args []string) error { return run(os.Stdout, args) }

func run(out io.Writer, args []string) error {
	f := flag.NewFlagSet("bench report", flag.ContinueOnError)
	into := f.String("into", "", "replace the results in this `document`")
	images := f.String("images", "", "write pictures into this `directory` (default: none)")
	readme := f.String("range", "", "replace the range over machines in this `document`")
	keep := f.String("keep", "", "only copy the results into this `directory`, under their kind of machine")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return errors.New("write report: one directory of results is needed (make bench writes .cache/bench)")
	}
	if *keep != "" {
		kept, err := cells.Keep(f.Arg(0), *keep)
		fmt.Fprint(out, "kept ", strings.Join(kept, " "), "\n")
		return err
	}
	machines, err := cells.Load(f.Arg(0))
	if err != nil {
		return err
	}
	if *readme != "" {
		if err := short.Into(*readme, text.Range(machines)); err != nil || *into == "" {
			return err
		}
	}
	var shown []text.Picture
	if *images != "" {
		pictures := picture.All(machines)
		if err := draw(*images, pictures); err != nil {
			return err
		}
		if shown, err = links(*into, *images, pictures); err != nil {
			return err
		}
	}
	results := text.Section(machines, shown)
	if *into == "" {
		_, err := io.WriteString(out, results)
		return err
	}
	return section.Into(*into, results)
}

// draw writes the pictures and removes those without results.
func draw(dir string, pictures []picture.Picture) error {
	for _, name := range picture.Names {
		if i := slices.IndexFunc(pictures, func(p picture.Picture) bool { return p.Name == name }); i >= 0 {
			if err := pictures[i].Write(dir); err != nil {
				return err
			}
			continue
		}
		if err := picture.Remove(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// links are the pictures as the document refers to them.
func links(document, dir string, pictures []picture.Picture) (all []text.Picture, err error) {
	from, err := filepath.Abs(filepath.Dir(document))
	if err != nil {
		return nil, fmt.Errorf("link pictures: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("link pictures: %w", err)
	}
	if dir, err = filepath.Rel(from, dir); err != nil {
		return nil, fmt.Errorf("link pictures: %w", err)
	}
	for _, p := range pictures {
		all = append(all, text.Picture{Path: filepath.ToSlash(filepath.Join(dir, p.Name+".svg")), Alt: p.Alt,
			With: p.With})
	}
	return all, nil
}
