// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

const (
	exampleDep = `kernel/net/nat.ko.xz: kernel/net/conntrack.ko.xz kernel/net/defrag-v6.ko.xz
kernel/net/conntrack.ko.xz: kernel/net/defrag-v6.ko.xz
kernel/net/defrag-v6.ko.xz:
kernel/net/chain-nat.ko.xz: kernel/net/nat.ko.xz kernel/net/tables.ko.xz kernel/net/conntrack.ko.xz kernel/net/defrag-v6.ko.xz
kernel/net/tables.ko.xz:
kernel/drivers/net/veth.ko.zst:
`
	exampleBuiltin = "kernel/net/sched/sch-codel.ko\nkernel/lib/crc.ko\n"
)

func example(t *testing.T) tree {
	t.Helper()
	tr, err := parseTree(strings.NewReader(exampleDep), strings.NewReader(exampleBuiltin))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestModulesComeOnceAndAfterTheirDependencies(t *testing.T) {
	const defrag, conntrack = "kernel/net/defrag-v6.ko.xz", "kernel/net/conntrack.ko.xz"
	const nat, chain, tables = "kernel/net/nat.ko.xz", "kernel/net/chain-nat.ko.xz", "kernel/net/tables.ko.xz"
	for _, tt := range []struct {
		name  string
		names []string
		want  []string
	}{
		{"nothing", nil, nil},
		{"one that needs none", []string{"veth"}, []string{"kernel/drivers/net/veth.ko.zst"}},
		{"indirect needs", []string{"nat"}, []string{defrag, conntrack, nat}},
		{"shared needs", []string{"conntrack", "chain_nat"}, []string{defrag, conntrack, nat, tables, chain}},
		{"a name with a dash", []string{"chain-nat", "defrag-v6"}, []string{defrag, conntrack, nat, tables, chain}},
		{"twice", []string{"tables", "tables"}, []string{tables}},
		{"built in", []string{"sch_codel", "crc", "tables"}, []string{tables}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := example(t).order(tt.names)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAModuleThatTheKernelLacksIsAnError(t *testing.T) {
	if files, err := example(t).order([]string{"veth", "wireguard"}); err == nil ||
		!strings.Contains(err.Error(), "wireguard") {
		t.Errorf("%v, %v", files, err)
	}
}

func TestACycleOfModulesEnds(t *testing.T) {
	tr, err := parseTree(strings.NewReader("a.ko: b.ko\nb.ko: a.ko\n"), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if files, err := tr.order([]string{"a"}); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestDependenciesWithoutColonAreRefused(t *testing.T) {
	if _, err := parseTree(strings.NewReader("kernel/a.ko\n"), strings.NewReader("")); err == nil {
		t.Error("parsed")
	}
}

func TestPackedModulesAreUncompressedAndInOrder(t *testing.T) {
	if err := Need("xz"); err != nil {
		t.Fatal(err)
	}
	k := Kernel{Release: "1.0", Dir: t.TempDir()}
	write(t, filepath.Join(k.modules(), "modules.dep"),
		"kernel/top.ko.xz: kernel/base-part.ko\nkernel/base-part.ko:\n")
	write(t, filepath.Join(k.modules(), "modules.builtin"), "kernel/inside.ko\n")
	write(t, filepath.Join(k.modules(), "modules.softdep"), "")
	write(t, filepath.Join(k.modules(), "modules.alias"), "")
	write(t, filepath.Join(k.modules(), "kernel/base-part.ko"), "base code")
	top := filepath.Join(k.modules(), "kernel/top.ko")
	write(t, top, "top code")
	if out, err := exec.Command("xz", top).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	got, err := k.PackModules([]string{"top", "inside"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"base_part.ko", "top.ko"}, got); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"base_part.ko": "base code", "top.ko": "top code"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestModuleComesAfterSoftDependenciesWithAliases(t *testing.T) {
	tr, err := parseTree(strings.NewReader("a/libcrc32c.ko:\na/crc32c_generic.ko:\na/late.ko:\n"),
		strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	tr.before = parseSoftdep("# x\nsoftdep libcrc32c pre: crc32c not-there post: late\n")
	tr.alias = parseAliases("alias crc32c-* other\nalias crc32c crc32c_generic\nalias crc32c late\n")
	got, err := tr.order([]string{"libcrc32c"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/crc32c_generic.ko", "a/libcrc32c.ko"}, got); diff != "" {
		t.Error(diff)
	}
}
