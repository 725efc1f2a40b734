// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// other is an architecture other than this machine's.
var other = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

func TestKernelsThatRunSeldomAreChosenByNameOnly(t *testing.T) {
	all := []kernel.Wanted{{Name: "a", Often: true}, {Name: "b"}, {Name: "c", Often: true}}
	for _, tt := range []struct {
		names, want string
		host        bool
	}{
		{"", "a c", true}, {"all", "a b c", false}, {"b", "b", false}, {"host,b,a", "b a", true},
		{"host", "", true},
	} {
		got, host, err := choose(all, tt.names)
		var names []string
		for _, w := range got {
			names = append(names, w.Name)
		}
		if err != nil || host != tt.host || strings.Join(names, " ") != tt.want {
			t.Errorf("%q: %v, host %v, %v; want %s, host %v", tt.names, names, host, err, tt.want, tt.host)
		}
	}
	if got, _, err := choose(all, "a,d"); err == nil {
		t.Errorf("chosen: %v", got)
	}
}

func TestProgramsAreSelectedForEachKernel(t *testing.T) {
	specs := []spec{{Name: "tests", Test: "./a"}, {Name: "file", Path: "/b"},
		{Name: "tools", Main: "./c", Tools: []string{"sh"}},
		{Name: "some", Test: "./a", PartOf: "tests"}}
	for _, tt := range []struct {
		wanted kernel.Wanted
		want   string
	}{
		{kernel.Wanted{Arch: runtime.GOARCH}, "tests file tools"},
		{kernel.Wanted{Arch: other}, "tests"},
		{kernel.Wanted{Arch: runtime.GOARCH, Only: []string{"tools", "tests"}}, "tests tools"},
		{kernel.Wanted{Arch: runtime.GOARCH, Only: []string{"file", "some"}}, "file some"},
	} {
		var names []string
		for _, s := range programsOf(tt.wanted, specs) {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.wanted, got, tt.want)
		}
	}
	only := []kernel.Wanted{{Arch: runtime.GOARCH, Only: []string{"file", "some"}}}
	if wholes(only, specs); strings.Join(only[0].Only, " ") != "file tests" {
		t.Errorf("whole: %v", only[0].Only)
	}
	if err := without(only, "/file"); err != nil || strings.Join(only[0].Only, " ") != "tests" {
		t.Errorf("without file: %v, %v", only[0].Only, err)
	}
	if err := without(only, "/file"); err == nil || !strings.Contains(err.Error(), `"/file"`) {
		t.Errorf("a program that does not run was left out: %v", err)
	}
	for often, want := range map[bool]duration{true: 5, false: 5 * seldomPatience} {
		if got := programsOf(kernel.Wanted{Often: often, Arch: other},
			[]spec{{Test: "./a", Timeout: 5}})[0].Timeout; got != want {
			t.Errorf("often %v: a limit of %d, want %d", often, got, want)
		}
	}
	for _, w := range []kernel.Wanted{
		{Name: "x", Arch: runtime.GOARCH, Only: []string{"nothing"}},
		{Name: "x", Arch: other, Only: []string{"file"}},
	} {
		if err := checkPrograms([]kernel.Wanted{w}, specs); err == nil ||
			!strings.Contains(err.Error(), "kernel x") {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestOnlyProgramsThatRunAreBuilt(t *testing.T) {
	specs := []spec{{Name: "a", Test: "./a"}, {Name: "b", Test: "./b"}, {Name: "file", Path: "/c"}}
	m := matrix{specs: specs, kernels: []kernel.Wanted{
		{Arch: runtime.GOARCH, Only: []string{"b"}}, {Arch: other, Only: []string{"a"}},
		{Arch: other, Only: []string{"a", "file"}},
	}}
	names := func(arch string) (all string) {
		for _, s := range m.specsOf(arch) {
			all += s.Name + " "
		}
		return all
	}
	if own, far := names(runtime.GOARCH), names(other); own != "b " || far != "a " {
		t.Errorf("for this machine %q, for another %q", own, far)
	}
	m.host = true
	if own := names(runtime.GOARCH); own != "a b file " {
		t.Errorf("with this machine's own kernel: %q", own)
	}
}

func TestEachArchitectureHasItsMachine(t *testing.T) {
	for _, tt := range []struct{ arch, emulator, console, port string }{
		{"amd64", "qemu-system-x86_64", "console=ttyS0", "/dev/ttyS1"},
		{"arm64", "qemu-system-aarch64", "console=ttyAMA0", "/dev/ttyS0"},
	} {
		a, err := archOf(tt.arch)
		if err != nil {
			t.Fatal(err)
		}
		m := machine{arch: a,
			kernel: kernel.Kernel{Wanted: kernel.Wanted{Parameters: []string{"lockdown=integrity"}}},
			qemu:   qemu{"tcg", "max", true}}
		args := m.command(t.Context()).Args
		line := strings.Fields(args[slices.Index(args, "-append")+1])
		if args[0] != tt.emulator || !slices.Contains(line, tt.console) ||
			!slices.Contains(line, "lockdown=integrity") {
			t.Errorf("%s: %q", tt.arch, args)
		}
		if got := frame.ResultPort(tt.arch); got != tt.port {
			t.Errorf("%s: results come over %s", tt.arch, got)
		}
	}
	if a, err := archOf("riscv64"); err == nil {
		t.Errorf("riscv64: %+v", a)
	}
}
