// SPDX-License-Identifier: Apache-2.0

// Package row is the format of the results of the tests of runtimes for docs/RUNTIMES.md: one JSON file for
// each runtime.
package row

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Row is the result of one runtime with sockmap.
type Row struct {
	Runtime string   `json:"runtime"`
	Version string   `json:"version"` // version of the runtime
	Cgroup  string   `json:"cgroup"`  // the source of the cgroup, as in the attachment
	Calls   []string `json:"calls"`   // the CNI commands with which the sockmap binary was called
	Result  string   `json:"result"`
}

// ErrIncomplete means a row in which a field is empty.
var ErrIncomplete = errors.New("row without one of runtime, version, cgroup, calls, result")

func (r Row) check() error {
	if r.Runtime == "" || r.Version == "" || r.Cgroup == "" || len(r.Calls) == 0 || r.Result == "" {
		return ErrIncomplete
	}
	return nil
}

// Write writes r to the file NAME.json of dir.
func Write(dir, name string, r Row) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("write row %s: %w", name, err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write row %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write row: %w", err)
	}
	if err := os.WriteFile(file(dir, name), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write row: %w", err)
	}
	return nil
}

// Remove removes the row of an earlier run, so that a test that fails leaves none.
func Remove(dir, name string) error {
	if err := os.Remove(file(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove row: %w", err)
	}
	return nil
}

func file(dir, name string) string { return filepath.Join(dir, name+".json") }

// ReadAll returns the rows of all dirs, sorted by runtime. A directory without any is an error.
func ReadAll(dirs ...string) ([]Row, error) {
	var files []string
	for _, dir := range dirs {
		more, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(more) == 0 {
			return nil, fmt.Errorf("read rows: none in %s (make test-runtimes writes them)", dir)
		}
		files = append(files, more...)
	}
	var rows []Row
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read row: %w", err)
		}
		var r Row
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("read row %s: %w", name, err)
		}
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("read row %s: %w", name, err)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(strings.ToLower(a.Runtime), strings.ToLower(b.Runtime))
	})
	return rows, nil
}
