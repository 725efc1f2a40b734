// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sleepers, files or folders, may call time.Sleep, apart from the product. No _test.go file may: a test waits
// for an event by fixture.Wait or fixture.Asleep, and if it needs that time passes, fixture.Elapse names the
// reason.
var sleepers = map[string]string{
	"test/fixture/wait.go": "the helpers themselves",

	// Programs and libraries that are not tests. Their waits have bounds.
	"test/bench/":                        "benchmarks: the pace of a load, and waits for programs",
	"test/conformance/cases/child.go":    "a program that the cases run, without a case",
	"test/conformance/cases/goprog.go":   "the pace of a program that the cases run",
	"test/conformance/cases/traffic.go":  "the pace of a case's ends",
	"test/conformance/place/loopback.go": "waits for a cgroup",
	"test/conformance/suite/t.go":        "the helpers of cases: Pause, Rest, Eventually",
	"test/conformance/suite/wait.go":     "bounds an event loop that spins",
	"test/e2e/runtimes/cmd/talk/main.go": "a program in a container: waits for its peer",
	"test/edge/end.go":                   "waits for sockets",
	"test/edge/nginx.go":                 "waits for a program",
	"test/edge/round.go":                 "the pace of a reader",
	"test/lab/":                          "waits for cgroups and programs",
	"test/show/picture/main.go":          "the pace of the shown traffic",
	"test/soak/talk.go":                  "the pace of connections",
	"test/vm/init/main.go":               "a guest's first process must not end",
}

// timers, tests, may wait by a timer of package time. Others receive from a channel with fixture.Receive,
// which has a bound, and show by an event that something does not happen.
var timers = map[string]string{
	"pkg/agent/kill_test.go":               "bounds a loop that looks at the place of a process at each tick",
	"pkg/datapath/interrupt_test.go":       "the pace of signals",
	"pkg/datapath/memory_fixture_test.go":  "the pace of a slow reader",
	"pkg/datapath/refresh_fixture_test.go": "the pace of exchanges",
	"pkg/datapath/tap_test.go":             "the pace of renewals",
}

// dice may use random numbers without a printed seed.
var dice = map[string]string{
	"test/fixture/seed.go":               "it makes the seed",
	"test/conformance/cases/programs.go": "a port that is free; the case does not depend on it",
	"test/soak/change.go":                "the pace of changes; the sent bytes have a seed",
	"test/soak/long.go":                  "the length of connections; the sent bytes have a seed",
}

func TestTestsWaitForEventsAndPrintTheirSeeds(t *testing.T) {
	slept, timed, threw := map[string]bool{}, map[string]bool{}, map[string]bool{}
	sources(t, func(path, content string) {
		rel, err := filepath.Rel(root(t), path)
		if err != nil {
			t.Fatal(err)
		}
		isTest := strings.HasSuffix(rel, "_test.go")
		if !isTest && !(strings.HasPrefix(rel, "test/") && strings.HasSuffix(rel, ".go")) {
			return
		}
		for _, call := range callsIn(t, path, content) {
			switch {
			case call == "time.Sleep":
				if !excepted(sleepers, rel, slept) || isTest && rel != peer {
					t.Errorf("%s calls time.Sleep: wait for the event (fixture.Wait, fixture.Asleep), or name the time (fixture.Elapse)", rel)
				}
			case isTest && slices.Contains(timerCalls, call):
				if !excepted(timers, rel, timed) {
					t.Errorf("%s calls %s: receive with fixture.Receive, or show by an event that nothing comes", rel, call)
				}
			case strings.HasPrefix(call, "rand.") && !slices.Contains(seeded, call):
				if !excepted(dice, rel, threw) {
					t.Errorf("%s calls %s, and its seed is not printed: use fixture.Rand", rel, call)
				}
			}
		}
	})
	for list, used := range map[*map[string]string]map[string]bool{
		&sleepers: slept, &timers: timed, &dice: threw,
	} {
		for _, rel := range slices.Sorted(maps.Keys(*list)) {
			if !used[rel] {
				t.Errorf("%s needs no exception any more", rel)
			}
		}
	}
}

// excepted finds a file, or a folder that contains it, among the exceptions, and records that the exception
// is used.
func excepted(exceptions map[string]string, rel string, used map[string]bool) bool {
	for name := range exceptions {
		if rel == name || strings.HasSuffix(name, "/") && strings.HasPrefix(rel, name) {
			used[name] = true
			return true
		}
	}
	return false
}

// peer is in a module of its own, without this one.
const peer = "test/bench/programs/peer/peer_test.go"

var timerCalls = []string{"time.After", "time.NewTimer", "time.NewTicker", "time.Tick"}

// seeded are the functions of math/rand/v2 that take a seed.
var seeded = []string{"rand.New", "rand.NewPCG", "rand.NewChaCha8"}

// callsIn lists calls of functions of package time and of math/rand/v2 (not crypto/rand, which has the same
// name).
func callsIn(t *testing.T, path, content string) (calls []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok && (pkg.Name == "time" || pkg.Name == "rand" &&
			imports(file, "math/rand/v2")) {
			calls = append(calls, pkg.Name+"."+sel.Sel.Name)
		}
		return true
	})
	return calls
}

func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports,
		func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

// opensNothing are packages whose tests open no descriptors and start no goroutines.
var opensNothing = []string{
	"pkg/bench/ratio", "pkg/cniconf", "pkg/decline", "pkg/hazard", "pkg/jsonobject", "pkg/portrange",
	"pkg/version", "plugin/sockmapctl/internal/live", "plugin/sockmapctl/internal/term",
}

// openers are packages of the standard library and others that open descriptors and start goroutines.
var openers = []string{"net", "net/http", "os/exec", "syscall", "golang.org/x/sys/unix"}

// TestPackagesLookForLeaks finds a TestMain which compares descriptors, in each package of the product that
// has tests.
func TestPackagesLookForLeaks(t *testing.T) {
	looks, opens := map[string]bool{}, map[string]string{}
	sources(t, func(path, content string) {
		rel, err := filepath.Rel(root(t), filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") && (strings.HasPrefix(rel, "pkg/") ||
			strings.HasPrefix(rel, "plugin/")) {
			looks[rel] = looks[rel] || strings.Contains(content, "fixture.Main(m)") ||
				strings.Contains(content, "labtest.Main(m)")
			if with := opener(t, path, content); with != "" {
				opens[rel] = filepath.Base(path) + " has " + with
			}
		}
	})
	for _, wrong := range leakFaults(looks, opens, opensNothing) {
		t.Error(wrong)
	}
}

// leakFaults compares packages with the exempted ones: whether they look for leaks, and what opens something.
func leakFaults(looks map[string]bool, opens map[string]string, exempted []string) (wrong []string) {
	for rel, ok := range looks {
		if !ok && !slices.Contains(exempted, rel) {
			wrong = append(wrong, rel+
				" has no TestMain that calls fixture.Main (for tests of pure functions: name it in opensNothing)")
		}
	}
	for _, rel := range exempted {
		looking, tested := looks[rel]
		switch {
		case !tested:
			wrong = append(wrong, rel+" has no tests: remove it from opensNothing")
		case looking:
			wrong = append(wrong, rel+" has a TestMain that looks for leaks: remove it from opensNothing")
		case opens[rel] != "":
			wrong = append(wrong, rel+": "+opens[rel]+": it needs a TestMain, and no place in opensNothing")
		}
	}
	return wrong
}

// opener returns what in a file opens descriptors or starts goroutines.
func opener(t *testing.T, path, content string) (with string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range openers {
		if imports(file, imported) {
			return imported
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			with = "a go statement"
		}
		return with == ""
	})
	return with
}

func TestUnusedExemptionsFromTheSearchForLeaksAreFound(t *testing.T) {
	looks := map[string]bool{"looks": true, "pure": false, "opens": false, "new": false}
	opens := map[string]string{"looks": "net", "opens": "net"}
	for exempted, want := range map[string]int{"pure opens new": 1, "pure": 2, "pure new": 1,
		"pure new opens looks": 2, "pure new gone": 2} {
		if got := leakFaults(looks, opens, strings.Fields(exempted)); len(got) != want {
			t.Errorf("%s: %q, want %d", exempted, got, want)
		}
	}
	for content, want := range map[string]string{
		"package x":                                   "",
		"package x\nimport \"net\"":                   "net",
		"package x\nimport \"net/netip\"":             "",
		"package x\nfunc f() { go f() }":              "a go statement",
		"package x\nimport \"golang.org/x/sys/unix\"": "golang.org/x/sys/unix",
	} {
		if got := opener(t, "x_test.go", content); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}
