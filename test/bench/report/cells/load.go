// SPDX-License-Identifier: Apache-2.0

// Package cells is what the tables and the pictures of the report have in common: which cells there are, what they are
// called, in which units they are shown, and when a ratio is a gain or a loss.
package cells

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Suites are the names of the files that Load looks for, in the order of the report.
var Suites = []string{"micro", "programs", "scale"}

// Load reads the files that are there.
func Load(dir string) (files []result.File, err error) {
	for _, suite := range Suites {
		f, err := result.Read(filepath.Join(dir, suite+".json"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := check(f); err != nil {
			return nil, fmt.Errorf("results %s.json: %w", suite, err)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("results of %s in %s: none (make bench leaves them)", strings.Join(Suites, ", "), dir)
	}
	return files, nil
}

// check refuses what would become a row that says nothing, or something false.
func check(f result.File) error {
	seen := map[string]bool{}
	for _, c := range f.Cells {
		key := strings.Join([]string{c.Group, c.Name, c.Measure, c.CPUs, string(c.ComparedWith())}, ", ")
		switch {
		case c.Group == "" || c.Name == "":
			return fmt.Errorf("cell %q: it needs a group and a name", key)
		case c.Better != result.Lower && c.Better != result.Higher:
			return fmt.Errorf("cell %q: better is %q, and can be %q or %q", key, c.Better, result.Lower, result.Higher)
		case seen[key]:
			return fmt.Errorf("cell %q: it is there twice", key)
		}
		seen[key] = true
	}
	return nil
}

// Group is the cells of one kind of traffic.
type Group struct {
	Name  string
	Title string
	Cells []result.Cell
}

// titles are the groups in the order of the report.
var titles = []struct{ name, title string }{
	{"rr", "Request and response"},
	{"stream", "Streams"},
	{"program", "Programs"},
	{"connections", "Many connections at once"},
	{"churn", "Connections made and closed"},
	{"offnode", "Traffic that is not accelerated"},
	{"cpu", "CPU time"},
	{"memory", "Memory"},
	{"scale", "Many flows"},
	{"add", "Starting a container"},
}

// Groups sorts the cells of all files by group. A group that is not known comes last, under its own name.
func Groups(files []result.File) (groups []Group) {
	for _, t := range titles {
		groups = append(groups, Group{Name: t.name, Title: t.title})
	}
	for _, f := range files {
		for _, c := range f.Cells {
			i := slices.IndexFunc(groups, func(g Group) bool { return g.Name == c.Group })
			if i < 0 {
				i = len(groups)
				groups = append(groups, Group{Name: c.Group, Title: c.Group})
			}
			groups[i].Cells = append(groups[i].Cells, c)
		}
	}
	return slices.DeleteFunc(groups, func(g Group) bool { return len(g.Cells) == 0 })
}
