// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// The product's go.mod is read by its SBOM, by licence checks and by its users' scanners. Modules of tests
// and tools belong in the go.mod of that test, see test/README.md.
func TestGoModNamesOnlyWhatTheProductLinks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	linked := linkedModules(t)
	for _, r := range file.Require {
		if !r.Indirect && !linked[r.Mod.Path] {
			t.Errorf("go.mod requires %s, which no program of the release links: use it in a module of its own below test/",
				r.Mod.Path)
		}
	}
	for _, tool := range file.Tool {
		t.Errorf("go.mod has the tool %s: it belongs into test/tools/go.mod", tool.Path)
	}
}

// linkedModules are the modules of both programs of the release, on each of its architectures and with each
// of its tags.
func linkedModules(t *testing.T) map[string]bool {
	t.Helper()
	linked := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		for _, tags := range []string{"", "lean"} {
			cmd := exec.Command("go", "list", "-tags", tags, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}",
				"./plugin/sockmap", "./plugin/sockmapctl")
			cmd.Dir, cmd.Env = root(t), append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list for %s: %v", arch, err)
			}
			for _, path := range strings.Fields(string(out)) {
				linked[path] = true
			}
		}
	}
	return linked
}

// The generator of the BPF objects must have the same version as the library that loads them.
func TestBPF2GoIsOfTheVersionThatIsLinked(t *testing.T) {
	version := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		file, err := modfile.Parse(path, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range file.Require {
			if r.Mod.Path == "github.com/cilium/ebpf" {
				return r.Mod.Version
			}
		}
		t.Fatalf("%s does not require github.com/cilium/ebpf", path)
		return ""
	}
	if product, tools := version("go.mod"), version("test/tools/go.mod"); product != tools {
		t.Errorf("go.mod has github.com/cilium/ebpf %s, test/tools/go.mod %s: go get -C test/tools github.com/cilium/ebpf@%s", product, tools, product)
	}
}
