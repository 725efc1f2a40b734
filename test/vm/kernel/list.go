// SPDX-License-Identifier: Apache-2.0

// Package kernel downloads distribution kernels from a Debian archive into a cache, without touching the
// system's own package state, and reads which modules they have.
package kernel

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Wanted is one line of the list of kernels.
type Wanted struct {
	Name    string   // unique, and a plain file name
	Line    string   // beginning of the version, in whole components: "6.1" is not "6.12"
	Arch    string   // architecture, as Debian and Go name it
	Suites  []string // suites of the archive
	Package string
	Often   bool     // it runs for each change; the others are too slow for that
	Only    []string // programs of the manifest that run on it; empty: all
	// Guards must run on it. By default, only the hazards in Open may prevent acceleration.
	Guards []string
	Open   []string
	// Parameters are words of its command line in addition to those that every guest has.
	Parameters []string
}

// Kernel is a kernel in the cache.
type Kernel struct {
	Wanted
	Version string // version of the package: "6.1.176-1"
	Release string // output of uname -r: "6.1.0-50-cloud-amd64"
	Dir     string // contains vmlinuz and lib/modules/RELEASE
}

// Image is the path of the bootable file.
func (k Kernel) Image() string {
	return filepath.Join(k.Dir, "vmlinuz")
}

// ParseList reads a list of kernels.
func ParseList(r io.Reader) ([]Wanted, error) {
	var all []Wanted
	seen := map[string]bool{}
	for n, fields := range words(r) {
		w, err := parseWanted(fields)
		if err != nil {
			return nil, fmt.Errorf("parse list of kernels: line %d: %w", n, err)
		}
		if seen[w.Name] || !filepath.IsLocal(w.Name) || filepath.Base(w.Name) != w.Name {
			return nil, fmt.Errorf("parse list of kernels: line %d: %q is there twice, or no plain file name", n,
				w.Name)
		}
		seen[w.Name] = true
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("parse list of kernels: it is empty")
	}
	return all, nil
}

// columns are the columns that each line of the list has. Words after them belong to the kernel's command
// line.
const columns = "name line arch suites package runs programs guards open"

func parseWanted(fields []string) (Wanted, error) {
	want := len(strings.Fields(columns))
	if len(fields) < want {
		return Wanted{}, fmt.Errorf("%d words, want %d or more (%s)", len(fields), want, columns)
	}
	w := Wanted{
		Name: fields[0], Line: fields[1], Arch: fields[2], Suites: strings.Split(fields[3], ","),
		Package: fields[4],
		Often:   fields[5] == "often", Guards: namesOf(fields[7]), Open: namesOf(fields[8]),
		Parameters: slices.Clone(fields[want:]),
	}
	if !w.Often && fields[5] != "seldom" {
		return w, fmt.Errorf("it runs %q, want often or seldom", fields[5])
	}
	if fields[6] != "all" {
		w.Only = strings.Split(fields[6], ",")
	}
	return w, nil
}

// namesOf splits at commas. A dash means none.
func namesOf(word string) []string {
	if word == "-" {
		return nil
	}
	return strings.Split(word, ",")
}

// ParseNames reads a list of names, of modules or packages: one per line; # begins a comment.
func ParseNames(r io.Reader) (names []string, err error) {
	for n, fields := range words(r) {
		if len(fields) != 1 {
			return nil, fmt.Errorf("parse list of modules: line %d: %d words, want 1", n, len(fields))
		}
		names = append(names, fields[0])
	}
	return names, nil
}

// words yields the number and the words of each non-empty line, without comments. Both lists are compiled in,
// so reading cannot fail.
func words(r io.Reader) func(yield func(int, []string) bool) {
	return func(yield func(int, []string) bool) {
		s := bufio.NewScanner(r)
		for n := 1; s.Scan(); n++ {
			text, _, _ := strings.Cut(s.Text(), "#")
			if fields := strings.Fields(text); len(fields) > 0 && !yield(n, fields) {
				return
			}
		}
	}
}

// fits reports whether a package version belongs to the wanted line.
func (w Wanted) fits(version string) bool {
	rest, ok := strings.CutPrefix(version, w.Line)
	return ok && (rest == "" || strings.ContainsRune(".-+~", rune(rest[0])))
}
