// SPDX-License-Identifier: Apache-2.0

// Package cells has what the tables and the pictures of the report share: which cells there are, their names,
// the units in which they are shown, and when a ratio is a gain or a loss.
package cells

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// suites in the order of the report. A file may have a part of one.
var suites = []string{"micro", "programs", "scale"}

// Machine has all results of one kind of machine.
type Machine struct {
	result.Machine
	Files  []result.File
	Limits map[string]string // why a goal cannot be reached there, by Key of the cell
}

// limitsFile is in the directory of a machine's results. It is written by people, from profiles.
const limitsFile = "limits.json"

// Load reads all results in dir and its subdirectories, and sorts them by kind of machine.
func Load(dir string) (machines []Machine, err error) {
	var paths []string
	for _, pattern := range []string{"*.json", "*/*.json"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	kinds := map[string]*Machine{}
	for _, path := range paths {
		if filepath.Base(path) == limitsFile {
			continue
		}
		f, err := result.Read(path)
		if err != nil {
			return nil, err
		}
		kind := f.Machine.Kind()
		if kinds[kind] == nil {
			kinds[kind] = &Machine{Machine: f.Machine}
		}
		m := kinds[kind]
		m.Files = append(m.Files, f)
		if err := m.readLimits(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("results in %s: none (make bench writes them)", dir)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		m := *kinds[kind]
		slices.SortStableFunc(m.Files, func(a, b result.File) int { return suite(a) - suite(b) })
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("results of %s: %w", kind, err)
		}
		machines = append(machines, m)
	}
	return machines, nil
}

func suite(f result.File) int {
	name, _, _ := strings.Cut(f.Suite, " ")
	return slices.Index(suites, name)
}

func (m *Machine) readLimits(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, limitsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m.Limits)
	}
	if err != nil {
		return fmt.Errorf("read limits of %s: %w", dir, err)
	}
	return nil
}

// check refuses files that would result in a row without content, or with wrong content.
func (m Machine) check() error {
	seen, groups := map[string]bool{}, map[string]bool{}
	for _, f := range m.Files {
		if suite(f) < 0 {
			return fmt.Errorf("suite %q: it is none of %s", f.Suite, strings.Join(suites, ", "))
		}
		for _, c := range f.Cells {
			key := Key(c)
			switch {
			case c.Group == "" || c.Name == "":
				return fmt.Errorf("cell %q: it needs a group and a name", key)
			case c.Better != result.Lower && c.Better != result.Higher:
				return fmt.Errorf("cell %q: better is %q, and can be %q or %q", key, c.Better, result.Lower,
					result.Higher)
			case seen[key]:
				return fmt.Errorf("cell %q: it is there twice", key)
			}
			seen[key], groups[c.Group] = true, true
		}
	}
	for key := range m.Limits {
		group, _, _ := strings.Cut(key, "/")
		if groups[group] && !seen[key] { // a group without any cell may not be measured yet
			return fmt.Errorf("%s names the cell %q, which was not measured", limitsFile, key)
		}
	}
	return nil
}

// Key distinguishes cells, and is the same on all machines.
func Key(c result.Cell) string {
	key := c.Group + "/" + Label(c)
	if c.ComparedWith() != result.Plain {
		key += " against " + string(c.ComparedWith())
	}
	return key
}

// Group has the cells of one kind of traffic.
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

// Row is one cell on all machines.
type Row struct {
	Key, Title string         // Title is that of the group
	Cells      []*result.Cell // one for each machine; nil: not measured there
}

// First is the cell of the first machine that has one.
func (r Row) First() result.Cell {
	i := slices.IndexFunc(r.Cells, func(c *result.Cell) bool { return c != nil })
	return *r.Cells[i]
}

// Rows are the cells of all machines, each once, group by group.
func Rows(machines []Machine) (rows []Row) {
	var all []result.File
	for _, m := range machines {
		all = append(all, m.Files...)
	}
	at := map[string]int{}
	for _, g := range Groups(all) {
		for _, c := range g.Cells {
			if _, there := at[Key(c)]; !there {
				at[Key(c)] = len(rows)
				rows = append(rows, Row{Key: Key(c), Title: g.Title, Cells: make([]*result.Cell, len(machines))})
			}
		}
	}
	for i, m := range machines {
		for _, f := range m.Files {
			for j := range f.Cells {
				rows[at[Key(f.Cells[j])]].Cells[i] = &f.Cells[j]
			}
		}
	}
	return rows
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
