// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

func readText(t *testing.T, text string) ([]spec, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return readSpecs(file)
}

func TestManifestBecomesTheProgramsOfInit(t *testing.T) {
	specs, err := readText(t, `[
		{"test": "./pkg/datapath", "args": ["-test.short"], "timeout": "100s"},
		{"name": "suite", "main": "./test/conformance/cmd/suite", "env": ["A=b"]},
		{"path": "/bin/busybox", "args": ["true"], "guest_args": ["-slow"]}
	]`)
	if err != nil {
		t.Fatal(err)
	}
	var got []frame.Program
	for _, s := range specs {
		got = append(got, s.program(true))
	}
	want := []frame.Program{
		{Name: "datapath", Path: "/vm/bin/datapath", Dir: "/src/pkg/datapath", Timeout: 100 * time.Second,
			Args: []string{"-test.v=test2json", "-test.paniconexit0", "-test.timeout=1m35s", "-test.short"}},
		{Name: "suite", Path: "/vm/bin/suite", Dir: "/src/test/conformance/cmd/suite", Timeout: defaultTimeout,
			Env: []string{"A=b"}},
		{Name: "busybox", Path: "/vm/bin/busybox", Dir: "/src", Timeout: defaultTimeout,
			Args: []string{"true", "-slow"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAManifestWithAMistakeIsRefused(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", `[{"test": "./a", "timout": "1s"}]`, "timout"},
		{"nothing to run", `[{"name": "a"}]`, "program 1: 0 of test, main and path"},
		{"two things to run", `[{"test": "./a", "path": "/b"}]`, "2 of test, main and path"},
		{"a name with a slash", `[{"name": "a/b", "path": "/b"}]`, "no plain file name"},
		{"a name that is a directory", `[{"name": "..", "path": "/b"}]`, "no plain file name"},
		{"a name twice", `[{"test": "./x/a"}, {"path": "/bin/a"}]`, "twice"},
		{"no time", `[{"test": "./a", "timeout": "soon"}]`, "soon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if specs, err := readText(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v, want %q", specs, err, tt.want)
			}
		})
	}
}

func TestTheManifestOfTheProjectIsValid(t *testing.T) {
	specs, err := readSpecs("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	// The facts of a kernel come from these, in this order.
	names := []string{doctorProgram, defaultProgram, conformanceProgram}
	for _, s := range specs {
		if len(names) > 0 && s.Name == names[0] {
			names = names[1:]
		}
	}
	if len(names) > 0 {
		t.Errorf("it lacks %q, or has it too early", names[0])
	}
}

func TestTheCommandLineNamesAPackageOrAFile(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "pkg", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := commandSpec(root, []string{"./pkg/a", "-test.run=X"})
	if err != nil || s.Test != "./pkg/a" || s.Name != "a" || len(s.Args) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = commandSpec(root, []string{"./pkg/a.test"})
	if err != nil || s.Path != "./pkg/a.test" || s.Name != "a.test" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestLibrariesAreThoseWithAPath(t *testing.T) {
	got := libraries("\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n")
	if diff := cmp.Diff([]string{"/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}, got); diff != "" {
		t.Error(diff)
	}
}

// A test that has another name by now would no longer run, and it would not be noticed.
func TestTheManifestNamesTestsThatThereAre(t *testing.T) {
	specs, err := readSpecs("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, s := range specs {
		if len(s.Tests) == 0 {
			continue
		}
		files, err := filepath.Glob(filepath.Join("../..", s.Test, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(b)
		}
		for _, name := range s.Tests {
			if named++; !strings.Contains(text.String(), "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("program %s: %s has no %s", s.Name, s.Test, name)
			}
		}
	}
	if named == 0 {
		t.Error("no program names tests")
	}
}

func TestAPackageIsBuiltInItsModule(t *testing.T) {
	repo := t.TempDir()
	for _, dir := range []string{"pkg/x", "test/bench/micro"} {
		if err := os.MkdirAll(filepath.Join(repo, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"", "test/bench"} {
		if err := os.WriteFile(filepath.Join(repo, dir, "go.mod"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	nested := filepath.Join(repo, "test/bench")
	for pkg, want := range map[string][2]string{
		"./pkg/x": {repo, "./pkg/x"}, "./test/bench": {nested, "."}, "./test/bench/micro": {nested, "./micro"},
		"/elsewhere": {repo, "/elsewhere"},
	} {
		if module, inside := moduleOf(repo, pkg); module != want[0] || inside != want[1] {
			t.Errorf("%s: package %s of %s, want %q", pkg, inside, module, want)
		}
	}
}
