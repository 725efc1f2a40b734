// SPDX-License-Identifier: Apache-2.0

// Package kernel gets distribution kernels from a Debian archive into a cache, without touching the system's own
// package state, and tells what modules they have.
package kernel

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Wanted is one line of the list of kernels.
type Wanted struct {
	Name    string   // unique, and a plain file name
	Line    string   // what the version begins with, whole components: "6.1" is not "6.12"
	Suites  []string // of the archive
	Package string
	// Guards must run on it, and nothing else than Open may keep acceleration off by default.
	Guards []string
	Open   []string
}

// Kernel is a kernel in the cache.
type Kernel struct {
	Wanted
	Version string // of the package: "6.1.176-1"
	Release string // what uname -r says: "6.1.0-50-cloud-amd64"
	Dir     string // holds vmlinuz and lib/modules/RELEASE
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
		if len(fields) != 6 {
			return nil, fmt.Errorf("parse list of kernels: line %d: %d words, want 6 (name line suites package guards open)", n, len(fields))
		}
		w := Wanted{
			Name: fields[0], Line: fields[1], Suites: strings.Split(fields[2], ","), Package: fields[3],
			Guards: namesOf(fields[4]), Open: namesOf(fields[5]),
		}
		if seen[w.Name] || !filepath.IsLocal(w.Name) || filepath.Base(w.Name) != w.Name {
			return nil, fmt.Errorf("parse list of kernels: line %d: %q is there twice, or no plain file name", n, w.Name)
		}
		seen[w.Name] = true
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("parse list of kernels: it is empty")
	}
	return all, nil
}

// namesOf splits at commas. A dash stands for none.
func namesOf(word string) []string {
	if word == "-" {
		return nil
	}
	return strings.Split(word, ",")
}

// ParseModules reads a list of module names.
func ParseModules(r io.Reader) (names []string, err error) {
	for n, fields := range words(r) {
		if len(fields) != 1 {
			return nil, fmt.Errorf("parse list of modules: line %d: %d words, want 1", n, len(fields))
		}
		names = append(names, fields[0])
	}
	return names, nil
}

// words yields the number and the words of each line that has any, without comments. Both lists are compiled in, so
// reading cannot fail.
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

// fits reports whether a package version is of the wanted line.
func (w Wanted) fits(version string) bool {
	rest, ok := strings.CutPrefix(version, w.Line)
	return ok && (rest == "" || strings.ContainsRune(".-+~", rune(rest[0])))
}
