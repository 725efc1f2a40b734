// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// clockUsers may call time.Now. Its result has a monotonic reading, too, which time.Since and comparisons of
// two such times use, so bounds in time are safe when somebody sets the clock. Printed times are not, and
// need not be.
var clockUsers = map[string]string{
	"pkg/agent/http_cache.go":       "how long an answer is valid",
	"pkg/agent/health.go":           "a bound in time",
	"pkg/adopt/adopt.go":            "how long to leave a failure alone",
	"pkg/agent/load.go":             "how long to leave a failure alone",
	"pkg/agent/pods.go":             "shows an age as a time of day",
	"pkg/agent/repair.go":           "how long to hold back",
	"pkg/bench/wire/agent.go":       "a bound in time",
	"pkg/bench/wire/busy.go":        "how long CPUs were busy",
	"pkg/bench/wire/churn.go":       "how long a connection took",
	"pkg/bench/wire/many.go":        "how long a request took",
	"pkg/bench/wire/requests.go":    "how long a request took",
	"pkg/bench/wire/stream.go":      "how long a stream took",
	"pkg/bench/wire/wait.go":        "a bound in time",
	"pkg/cgroup/pod.go":             "a bound in time",
	"pkg/cgroup/walk.go":            "a bound in time",
	"pkg/datapath/config.go":        "shows an age as a time of day",
	"pkg/datapath/evict.go":         "a bound in time",
	"pkg/datapath/tap.go":           "a bound in time",
	"pkg/endpoint/reap.go":          "a bound in time",
	"pkg/hazard/probe/interrupt.go": "a bound in time",
	"pkg/hazard/probe/mixed.go":     "a bound in time",
	"pkg/hazard/probe/pair.go":      "a bound in time",
	"pkg/hazard/probe/probes.go":    "how long a probe took",
	"pkg/install/binary.go":         "whether a file's time stamp is too young to be trusted: read again if in doubt",
	"pkg/install/uninstall.go":      "a bound in time",
	"pkg/metrics/shared.go":         "how long a snapshot is good",
	"pkg/tap/gate.go":               "bytes per second",
	"pkg/tap/session.go":            "a bound in time",
	"pkg/tap/writer.go":             "shows when a message was sent as a time of day",
	"plugin/sockmap/count.go":       "how long a call took",
	"plugin/sockmap/main.go":        "how long a call took",
}

// TestNoDecisionByTheWallClock keeps packages from storing or comparing times of day: somebody may set that
// clock, and times that are kept over restarts of processes would then be wrong. Stored times are
// CLOCK_BOOTTIME.
func TestNoDecisionByTheWallClock(t *testing.T) {
	used := map[string]bool{}
	sources(t, func(path, content string) {
		rel, err := filepath.Rel(root(t), path)
		if err != nil {
			t.Fatal(err)
		}
		library := strings.HasPrefix(rel, "pkg/") || strings.HasPrefix(rel, "plugin/sockmap/")
		if !library || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return
		}
		for _, name := range clockCalls(t, path, content) {
			used[rel] = true
			if clockUsers[rel] == "" {
				t.Errorf("%s uses %s: see clockUsers", rel, name)
			}
		}
	})
	for rel := range clockUsers {
		if !used[rel] {
			t.Errorf("%s does not read the clock any more: remove it from clockUsers", rel)
		}
	}
}

// clockCalls lists the calls in a file that read the time.
func clockCalls(t *testing.T, path, content string) (found []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch pkg.Name + "." + sel.Sel.Name {
		case "time.Now", "time.Since", "time.Until", "unix.Gettimeofday", "unix.Time", "unix.CLOCK_REALTIME",
			"syscall.Gettimeofday", "syscall.Time":
			found = append(found, sel.Sel.Name)
		}
		return true
	})
	return found
}
