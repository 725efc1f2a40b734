// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sockmap-cni/sockmap-cni/"

// terms are the words of the column "must not know" in docs/ARCHITECTURE.md, with what each means: packages
// whose path begins so. Besides them the column names packages of this project, and it may say that a package
// knows nothing else of this project, or nothing but some packages and what those know.
var terms = map[string]string{
	"BPF":               "github.com/cilium/ebpf",
	"CNI":               "github.com/containernetworking/",
	"HTTP":              "net/http",
	"gRPC":              "google.golang.org/grpc",
	"libcni":            "github.com/containernetworking/cni/libcni",
	"cobra":             "github.com/spf13/",
	"netlink":           "github.com/vishvananda/netlink",
	"OpenTelemetry":     "go.opentelemetry.io/",
	"Prometheus":        "github.com/prometheus/",
	"the terminal view": "charm.land/",
}

const (
	nothingElse = "everything else of this project"
	nothingBut  = "everything of this project but "
)

// importRule has what a package must not link.
type importRule struct {
	from      string
	forbidden []string // beginnings of paths
	only      []string // with closed: packages of this project that it may link, with what they link
	closed    bool
}

var (
	folderLink  = regexp.MustCompile(`\]\(\.\./([^)]+)\)`)
	packageName = regexp.MustCompile("^`((?:pkg|plugin|test)/[a-z/]+)`$")
	listMark    = regexp.MustCompile(`, | and `)
)

// importRules reads the table of folders.
func importRules(page string) (rules []importRule, err error) {
	_, table, found := strings.Cut(page, "| folder | content | must not know |\n|---|---|---|\n")
	if !found {
		return nil, errors.New("there is no table of folders with the column \"must not know\"")
	}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 && !strings.HasSuffix(line, " | |\n") {
			return nil, fmt.Errorf("not three columns: %s", line)
		}
		if len(cells) < 3 || strings.TrimSpace(cells[2]) == "" {
			continue
		}
		for _, m := range folderLink.FindAllStringSubmatch(cells[0], -1) {
			rule, err := newImportRule(m[1], strings.TrimSpace(cells[2]))
			if err != nil {
				return nil, err
			}
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

func newImportRule(from, cell string) (importRule, error) {
	r := importRule{from: from}
	for _, clause := range strings.Split(cell, "; ") {
		rest, but := strings.CutPrefix(clause, nothingBut)
		if clause == nothingElse || but {
			r.closed = true
		}
		if clause == nothingElse {
			continue
		}
		for _, item := range listMark.Split(rest, -1) {
			name := packageName.FindStringSubmatch(item)
			switch {
			case but && name != nil:
				r.only = append(r.only, name[1])
			case name != nil:
				r.forbidden = append(r.forbidden, module+name[1])
			case !but && terms[item] != "":
				r.forbidden = append(r.forbidden, terms[item])
			default:
				return r, fmt.Errorf("%s: %q is neither a package nor one of %q", from, item,
					slices.Sorted(maps.Keys(terms)))
			}
		}
	}
	return r, nil
}

// broken returns what the package links against its rule.
func (r importRule) broken(deps map[string][]string) (wrong []string) {
	from := module + r.from
	if _, ok := deps[from]; !ok {
		return []string{"there is no such package"}
	}
	allowed := map[string]bool{from: true}
	for _, name := range r.only {
		if _, ok := deps[module+name]; !ok {
			wrong = append(wrong, "there is no package "+name)
		}
		allowed[module+name] = true
		for _, dep := range deps[module+name] {
			allowed[dep] = true
		}
	}
	for _, dep := range deps[from] {
		if r.closed && strings.HasPrefix(dep, module) && !allowed[dep] ||
			slices.ContainsFunc(r.forbidden, func(path string) bool { return strings.HasPrefix(dep, path) }) {
			wrong = append(wrong, "it links "+dep)
		}
	}
	for _, path := range r.forbidden {
		if _, ok := deps[path]; strings.HasPrefix(path, module) && !ok {
			wrong = append(wrong, "there is no package "+path)
		}
	}
	return wrong
}

// The rules are the third column of the table of folders: what it says is what this test enforces.
func TestImports(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(t), "docs/ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := importRules(string(page))
	if err != nil {
		t.Fatalf("docs/ARCHITECTURE.md: %v", err)
	}
	if len(rules) < 25 {
		t.Fatalf("only %d packages have rules", len(rules))
	}
	deps := dependencies(t)
	for _, rule := range rules {
		for _, wrong := range rule.broken(deps) {
			t.Errorf("%s: %s (see the column \"must not know\" of docs/ARCHITECTURE.md)", rule.from, wrong)
		}
	}
}

func TestBrokenRulesAreFound(t *testing.T) {
	deps := map[string][]string{
		module + "pkg/a": {module + "pkg/b", module + "pkg/c", "net/http", "github.com/cilium/ebpf/link"},
		module + "pkg/b": {module + "pkg/c"},
		module + "pkg/c": nil,
	}
	for cell, want := range map[string]int{
		"gRPC":                               0,
		"BPF":                                1,
		"HTTP, BPF":                          2,
		"`pkg/b`":                            1,
		"`pkg/gone`":                         1,
		nothingElse:                          2,
		nothingElse + "; BPF":                3,
		nothingBut + "`pkg/b`":               0,
		nothingBut + "`pkg/c`":               1,
		nothingBut + "`pkg/b` and `pkg/c`":   0,
		nothingBut + "`pkg/c` and `pkg/old`": 2,
	} {
		const head = "| folder | content | must not know |\n|---|---|---|\n| [`x`](../conf) | more | |\n"
		rules, err := importRules(head + "| [`pkg/a`](../pkg/a) | text | " + cell + " |\n\n| no | more | rows |\n")
		if err != nil || len(rules) != 1 {
			t.Errorf("%q: %+v, %v", cell, rules, err)
			continue
		}
		if got := rules[0].broken(deps); len(got) != want {
			t.Errorf("%q: %q, want %d", cell, got, want)
		}
	}
	for _, cell := range []string{"the origin of its facts", nothingBut + "BPF", "BPF, CNI's wire format"} {
		if rule, err := newImportRule("pkg/a", cell); err == nil {
			t.Errorf("%q is understood as %+v", cell, rule)
		}
	}
}

// owned are libraries that one package and those below it import; others of the folder use them through it.
var owned = []struct{ folder, library, owner string }{
	{"pkg", "github.com/cilium/ebpf", "pkg/datapath"},
	{"plugin", "github.com/cilium/ebpf", "pkg/datapath"},
	{"plugin/sockmapctl", "charm.land/", "plugin/sockmapctl/internal/top"},
	{"plugin/sockmapctl", "github.com/charmbracelet/", "plugin/sockmapctl/internal/top"},
	{"plugin/sockmapctl", "github.com/vishvananda/netlink", "plugin/sockmapctl/internal/world"},
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	used := map[string]bool{}
	for pkg, imports := range listed(t, func(p listing) []string { return p.Imports }) {
		pkg = strings.TrimPrefix(pkg, module)
		for _, rule := range owned {
			for _, imported := range imports {
				switch {
				case !strings.HasPrefix(imported, rule.library):
				case below(pkg, rule.owner):
					used[rule.owner+" "+rule.library] = true
				case below(pkg, rule.folder):
					t.Errorf("%s imports %s, which %s owns", pkg, imported, rule.owner)
				}
			}
		}
	}
	for _, rule := range owned {
		if !used[rule.owner+" "+rule.library] {
			t.Errorf("%s owns %s, and does not import it any more", rule.owner, rule.library)
		}
	}
}

// below reports whether a package is a folder or below it.
func below(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// dependencies lists, for each package of the module, all packages that it links.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	return listed(t, func(p listing) []string { return p.Deps })
}

// listing has the output of go list about a package.
type listing struct {
	ImportPath    string
	Imports, Deps []string
}

// listed calls f for each package of the module.
func listed(t *testing.T, f func(listing) []string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listing
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = f(p)
	}
}
