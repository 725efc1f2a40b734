// SPDX-License-Identifier: Apache-2.0

package crinode

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/row"
)

// Row is the row of a runtime in docs/RUNTIMES.md, which is put together from what the tests have seen.
type Row struct {
	Dir     string   // contains its file, below .cache
	Runtime string   // the runtime, as the row names it
	Facts   []string // names of the facts in the result, in this order; all must have been seen
	// Version returns the versions of the programs, as they print them.
	Version func(*Runtime) (string, error)

	// What the tests of this process have seen.
	seen    sync.Mutex
	facts   map[string]string
	sources []string
	calls   []string
}

// Found stores a fact of a test that has passed so far, and the plugin's calls.
func (w *World) Found(fact, format string, args ...any) {
	w.Helper()
	if w.Failed() {
		return
	}
	r := &w.runtime.Row
	r.seen.Lock()
	defer r.seen.Unlock()
	if r.facts == nil {
		r.facts = map[string]string{}
	}
	r.facts[fact] = fmt.Sprintf(format, args...)
	for _, call := range w.Calls() {
		command, _, _ := strings.Cut(call, " ")
		if !slices.Contains(r.calls, command) {
			r.calls = append(r.calls, command)
		}
	}
}

// foundSource stores the source of an accelerated pod's cgroup.
func (r *Row) foundSource(source string) {
	r.seen.Lock()
	defer r.seen.Unlock()
	if !slices.Contains(r.sources, source) {
		r.sources = append(r.sources, source)
	}
}

func (r *Runtime) rowDir() string { return filepath.Join(r.cache, r.Row.Dir) }

// writeRow writes the row, if all tests have run and passed.
func (r *Runtime) writeRow(code int) error {
	is := &r.Row
	is.seen.Lock()
	defer is.seen.Unlock()
	var facts []string
	for _, name := range is.Facts {
		fact, ok := is.facts[name]
		if !ok || code != 0 {
			return nil
		}
		facts = append(facts, fact)
	}
	version, err := is.Version(r)
	if err != nil {
		return fmt.Errorf("read the versions: %w", err)
	}
	slices.Sort(is.sources)
	slices.Sort(is.calls)
	return row.Write(r.rowDir(), r.Daemon, row.Row{
		Runtime: is.Runtime, Version: version, Cgroup: strings.Join(is.sources, ", "), Calls: is.calls,
		Result: strings.Join(facts, "; "),
	})
}
