// SPDX-License-Identifier: Apache-2.0

// Package layout checks rules that reviewers would otherwise have to check: who may import whom, licence
// lines, and sizes.
package layout

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module       = "github.com/sockmap-cni/sockmap-cni/"
	maxFileLines = 400
	maxFuncLines = 80
)

// forbidden imports, each with the reason.
var forbidden = []struct{ from, to, why string }{
	{"plugin/sockmap", "net/http", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", "github.com/prometheus/", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", "github.com/spf13/", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", "go.opentelemetry.io/", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", "github.com/containernetworking/cni/libcni",
		"libcni is for runtimes; it brings in otel and net/http"},
	{"plugin/sockmap", module + "pkg/install", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", module + "pkg/pods", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmap", "google.golang.org/grpc", "the CNI binary is exec'd for each container: it stays small"},
	{"plugin/sockmapctl/internal/term", module, "a leaf imports nothing of ours"},
	{"plugin/sockmapctl/internal/bundle", module, "a leaf imports nothing of ours: the command reads the node"},
	{"plugin/sockmapctl/internal/bundle", "github.com/spf13/", "flags belong to the commands"},
	{"plugin/sockmapctl/internal/live", "github.com/spf13/", "flags belong to the commands"},
	{"plugin/sockmapctl/internal/live", "charm.land/", "internal/top owns the terminal view"},
	{"plugin/sockmapctl/internal/live", "github.com/vishvananda/netlink",
		"internal/world owns what explain reads"},
	{"plugin/sockmapctl/internal/world", "charm.land/", "internal/top owns the terminal view"},
	{"plugin/sockmapctl/internal/world", "github.com/spf13/", "flags belong to the commands"},
	{"plugin/sockmapctl/internal/top", "github.com/spf13/", "flags belong to the commands"},
	{"plugin/sockmapctl/internal/top", module + "pkg/endpoint", "its samples come from outside"},
	{"pkg/install", "github.com/cilium/ebpf", "it writes files; what runs on the node is behind an interface"},
	{"pkg/stub", module, "a leaf imports nothing of ours"},
	{"pkg/datapath", "github.com/containernetworking/", "CNI is spoken at the edge only"},
	{"pkg/endpoint", "github.com/containernetworking/cni/", "CNI is spoken at the edge only"},
	{"pkg/cgroup", "github.com/cilium/ebpf", "pkg/datapath owns every BPF object"},
	{"pkg/netns", "github.com/cilium/ebpf", "pkg/datapath owns every BPF object"},
	{"pkg/selinux", module, "a leaf imports nothing of ours"},
	{"pkg/lock", module, "a leaf imports nothing of ours"},
	{"pkg/netns", module, "a leaf imports nothing of ours"},
	{"pkg/cgroup", module + "pkg/datapath", "a leaf does not know the packages that use it"},
	{"pkg/cniconf", module, "a leaf imports nothing of ours"},
	{"pkg/conntrack", module, "a leaf imports nothing of ours"},
	{"pkg/decline", module, "a leaf imports nothing of ours"},
	{"pkg/hazard", module, "a leaf imports nothing of ours"},
	{"pkg/portrange", module, "a leaf imports nothing of ours"},
	{"pkg/daemonset", module, "a leaf imports nothing of ours"},
	{"pkg/agent", module + "pkg/daemonset", "an agent uses no API server"},
}

// owned are libraries that one package imports; others of its folder use them through it.
var owned = []struct{ folder, library, owner string }{
	{"plugin/sockmapctl", "charm.land/", "plugin/sockmapctl/internal/top"},
	{"plugin/sockmapctl", "github.com/charmbracelet/", "plugin/sockmapctl/internal/top"},
	{"plugin/sockmapctl", "github.com/vishvananda/netlink", "plugin/sockmapctl/internal/world"},
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	used := map[string]bool{}
	for pkg, imports := range listed(t, func(p listing) []string { return p.Imports }) {
		pkg = strings.TrimPrefix(pkg, module)
		for _, rule := range owned {
			if pkg != rule.folder && !strings.HasPrefix(pkg, rule.folder+"/") {
				continue
			}
			for _, imported := range imports {
				switch {
				case !strings.HasPrefix(imported, rule.library):
				case pkg == rule.owner:
					used[rule.owner+" "+rule.library] = true
				default:
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

// shared packages are leaves that other leaves may import: ranges of ports, and names of hazards.
var shared = []string{module + "pkg/portrange", module + "pkg/hazard"}

func TestImports(t *testing.T) {
	deps := dependencies(t)
	for _, rule := range forbidden {
		from := strings.TrimSuffix(module+rule.from, "/")
		if _, ok := deps[from]; !ok {
			t.Errorf("rule for %s, which does not exist", rule.from)
		}
		for _, dep := range deps[from] {
			if strings.HasPrefix(dep, rule.to) && !slices.Contains(shared, dep) {
				t.Errorf("%s depends on %s: %s", rule.from, dep, rule.why)
			}
		}
	}
}

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

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources calls f for each source file of the repository that is not generated.
func sources(t *testing.T, f func(path string, content string)) {
	t.Helper()
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "bin" || name == ".cache" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".sh":
		default:
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(content), "DO NOT EDIT.") || strings.HasSuffix(path, "layout_test.go") {
			f(path, string(content))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLicenceLines(t *testing.T) {
	sources(t, func(path, content string) {
		want := "SPDX-License-Identifier: Apache-2.0"
		if ext := filepath.Ext(path); ext == ".c" || ext == ".h" {
			want = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
		}
		head, _, _ := strings.Cut(content, "\n\n")
		if !strings.Contains(head, want) {
			t.Errorf("%s does not begin with %q", path, want)
		}
	})
}

func TestSizes(t *testing.T) {
	sources(t, func(path, content string) {
		if n := strings.Count(content, "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: split it", path, n, maxFileLines)
		}
		if filepath.Ext(path) == ".go" {
			checkFunctions(t, path, content)
		}
	})
}

func checkFunctions(t *testing.T, path, content string) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFuncLines {
			t.Errorf("%s: %s has %d lines, more than %d: split it", path, f.Name.Name, n, maxFuncLines)
		}
	}
}
