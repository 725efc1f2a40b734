// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func isQuick(f result.File) bool { return strings.Contains(f.Suite, "quick") }

// Keep copies results to the directory of their kind of machine. It removes cells that are measured again
// from the files that are there. A quick run replaces no other.
func Keep(from, dir string) (kept []string, err error) {
	paths, err := filepath.Glob(filepath.Join(from, "*.json"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("results in %s: none (make bench writes them)", from)
	}
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		f, err := result.Read(path)
		if err != nil {
			return kept, err
		}
		to := filepath.Join(dir, f.Machine.Kind(), filepath.Base(path))
		if err := replace(to, f); err != nil {
			return kept, fmt.Errorf("keep results: %w", err)
		}
		kept = append(kept, to)
	}
	return kept, nil
}

// replace writes f as path after its cells are removed from all other files in the directory.
func replace(path string, f result.File) error {
	anew := map[string]bool{}
	for _, c := range f.Cells {
		anew[Key(c)] = true
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.json"))
	if err != nil {
		return err
	}
	var left []func() error // no file is changed before all are allowed
	for _, other := range others {
		if filepath.Base(other) == limitsFile {
			continue
		}
		older, err := result.Read(other)
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(older.Cells), func(c result.Cell) bool { return anew[Key(c)] })
		switch {
		case len(rest) == len(older.Cells) && other != path:
			continue
		case isQuick(f) && !isQuick(older):
			return fmt.Errorf("it is a quick run, and %s is not: measure longer, or remove that", other)
		case len(rest) > 0 && other == path:
			return fmt.Errorf("it lacks %d cells that are in %s: give it another name, or remove that", len(rest),
				other)
		case len(rest) == 0:
			left = append(left, func() error { return os.Remove(other) })
		default:
			older.Cells = rest
			left = append(left, func() error { return older.Write(other) })
		}
	}
	for _, do := range left {
		if err := do(); err != nil {
			return err
		}
	}
	return f.Write(path)
}
