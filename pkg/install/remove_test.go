// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Others choose the names of networks and of their files.
func TestUninstallKeepsForeignFiles(t *testing.T) {
	const (
		list   = `{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"ptp"}]}`
		single = `{"cniVersion":"1.0.0","name":"other","type":"ptp"}`
	)
	named := func(name string) string { return strings.ReplaceAll(list, "NAME", name) }
	for name, files := range map[string]map[string]string{
		"a file that is called like the network": {"10-a.conflist": named("calico-kubeconfig"),
			"calico-kubeconfig": "secret"},
		"a network that is called like its file": {"10-a.conflist": named("10-a.conflist")},
		"a network that is called like another": {"10-a.conflist": named("20-b.conflist"),
			"20-b.conflist": named("b")},
		"an empty directory": {"10-a.conflist": named("a"), "a/": ""},
		"an empty directory of another network": {"10-a.conflist": named("a"), "20-b.conflist": named("b"),
			"b/": ""},
		"a list beside a file": {"10-a.conflist": named("a"), "20-b.conf": single,
			"20-b.conf.conflist": named("b")},
		"the list of a file, without sockmap": {"10-a.conflist": named("a"), "20-b.conf": single,
			"20-b.conf.conflist": wrapped(t, single)},
		"plugins in a directory": {"10-a.conflist": named("a"), "a/": "",
			"a/10-x.conf": `{"type":"tuning"}`},
	} {
		for _, installed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				p := newPlace(t)
				for file, text := range files {
					p.writeAll(file, text)
				}
				before := tree(t, p.ConfDir)
				if installed {
					p.install()
				}
				p.uninstall()
				p.expectTree("after uninstall", before)
			})
		}
	}
}

// writeAll writes a file and its parent directories. A name that ends with a slash is a directory.
func (p *place) writeAll(name, text string) {
	p.Helper()
	dir, file := filepath.Split(name)
	if err := os.MkdirAll(filepath.Join(p.ConfDir, dir), 0o755); err != nil {
		p.Fatal(err)
	}
	if file != "" {
		p.write(name, text)
	}
}

// wrapped is the list that replaces a file with one plugin.
func wrapped(t testing.TB, single string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "10-a.conf")
	if err := os.WriteFile(path, []byte(single), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := loadNetwork(path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := n.wrap()
	if err != nil {
		t.Fatal(err)
	}
	return string(list)
}

// A file or directory that existed before belongs to another component. A drop-in that cannot be written
// makes no directory.
func TestDropInIsRefusedIfAFileHasItsName(t *testing.T) {
	p := newPlace(t)
	p.DropIn = true
	p.write("10-a.conflist", `{"cniVersion":"1.0.0","name":"taken","plugins":[{"type":"ptp"}]}`)
	p.write("taken", "a file of somebody else")
	before := tree(t, p.ConfDir)
	if _, err := p.Chain(t.Context()); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	p.expectTree("after the error", before)
	p.uninstall()
	p.expectTree("after uninstall", before)
}
