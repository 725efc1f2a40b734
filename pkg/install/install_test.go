// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// loadedFirst is the network that a runtime loads first from dir: in the order of names, as containerd and
// CRI-O do.
func loadedFirst(t testing.TB, dir string) (name, version string, types []string) {
	t.Helper()
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var list *libcni.NetworkConfigList
	if strings.HasSuffix(files[0], ".conflist") {
		list, err = libcni.NetworkConfFromFile(files[0])
	} else {
		//lint:ignore SA1019 it is how runtimes load such a file
		conf, cerr := libcni.ConfFromFile(files[0])
		if cerr != nil {
			t.Fatal(cerr)
		}
		//lint:ignore SA1019 as above
		list, err = libcni.ConfListFromConf(conf)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
	}
	return list.Name, list.CNIVersion, types
}

func TestListsOfEveryShapeAreChainedAndRestored(t *testing.T) {
	for _, c := range append(conflists, singles...) {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			path := p.write(c.file, c.text)
			if err := errors.Join(os.Chmod(path, 0o640), os.Chown(path, 1234, 2345)); err != nil {
				t.Fatal(err)
			}
			before := tree(t, p.ConfDir)
			name, version, types := loadedFirst(t, p.ConfDir)
			c := p.install()
			gotName, gotVersion, gotTypes := loadedFirst(t, p.ConfDir)
			if gotName != name || gotVersion != version || strings.Join(gotTypes, " ") != strings.Join(types,
				" ")+" sockmap" {
				t.Errorf("runtimes load %s %s %q, before it was %s %s %q", gotName, gotVersion, gotTypes, name, version,
					types)
			}
			if as, err := fileAttributesOf(c.Path); err != nil || as.mode != 0o640 || as.uid != 1234 ||
				as.gid != 2345 {
				t.Errorf("mode and owner are %v, %v", as, err)
			}
			p.expectNoLeftovers()
			once := tree(t, p.ConfDir)
			if again := p.install(); again.Changed || again.Path != c.Path {
				t.Errorf("a second call changes %+v", again)
			}
			p.expectTree("after a second call", once)
			if done := p.uninstall(); !done.Binary || len(done.Unchained)+len(done.GivenBack) != 1 {
				t.Errorf("uninstall did %+v", done)
			}
			p.expectTree("after uninstall", before)
			if left := tree(t, p.BinDir); len(left) != 1 {
				t.Errorf("left in the directory of plugins: %v", left)
			}
			if done := p.uninstall(); done.Binary || len(done.Unchained)+len(done.GivenBack) != 0 {
				t.Errorf("a second uninstall did %+v", done)
			}
		})
	}
}

func TestAChangedConfigurationIsUpdatedInPlace(t *testing.T) {
	for _, c := range append(conflists, singles...) {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.write(c.file, c.text)
			before := tree(t, p.ConfDir)
			p.install()
			p.Entry = newEntry(t, `{"maxSockets":4194304,"required":true}`, "splice")
			c := p.install()
			if !c.Changed || strings.Count(string(c.After), `"sockmap"`) != 1 ||
				!strings.Contains(string(c.After), "4194304") {
				t.Errorf("got %+v:\n%s", c, c.After)
			}
			p.uninstall()
			p.expectTree("after uninstall", before)
		})
	}
}

func TestTheFirstFileThatLoadsIsChosen(t *testing.T) {
	const good = `{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"ptp"}]}`
	named := func(name string) string { return strings.ReplaceAll(good, "NAME", name) }
	for name, c := range map[string]struct {
		files map[string]string
		conf  string
		want  string // network, or a part of the error
	}{
		"by name": {map[string]string{"20-b.conflist": named("b"), "10-a.conflist": named("a")},
			"", "a"},
		"chosen": {map[string]string{"20-b.conflist": named("b"), "10-a.conflist": named("a")},
			"20-b.conflist", "b"},
		"not other extensions": {map[string]string{"00-a.conflist.bak": named("no"), ".01-b.tmp": named("no"),
			"10-a.conflist": named("a")}, "", "a"},
		"not directories": {map[string]string{"00-a.conflist/x.conf": named("no"),
			"10-a.conflist": named("a")}, "", "a"},
		"behind a broken one": {map[string]string{"00-a.conflist": `{"cniVersion":`,
			"10-a.conflist": named("a")}, "", "a"},
		"behind loopback": {map[string]string{"00-lo.conf": `{"cniVersion":"1.0.0","name":"lo","type":"loopback"}`,
			"10-a.conflist": named("a")}, "", "a"},
		"nothing": {nil, "", "no network configuration to chain into"},
		"only loopback": {map[string]string{"99-lo.conf": `{"cniVersion":"1.0.0","name":"lo","type":"loopback"}`},
			"", "no network configuration to chain into"},
		"only a broken one": {map[string]string{"10-a.conflist": `{"cniVersion":`}, "",
			"10-a.conflist: error parsing configuration list: unexpected end of JSON input"},
		"chosen and missing": {map[string]string{"10-a.conflist": named("a")}, "20-b.conflist",
			"20-b.conflist"},
		"chosen and broken": {map[string]string{"10-a.conflist": named("a"), "20-b.conflist": "["},
			"20-b.conflist", "20-b.conflist: error parsing"},
		"Multus":             {map[string]string{"00-multus.conf": `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim"}`, "10-a.conflist": named("a")}, "", "00-multus.conf: it belongs to Multus"},
		"behind Multus":      {map[string]string{"00-multus.conf": `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim"}`, "10-a.conflist": named("a")}, "10-a.conflist", "a"},
		"IPAM only":          {map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"host-local"}]}`}, "", "10-a.conflist: no plugin makes an interface (plugins: host-local)"},
		"sockmap only":       {map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"sockmap"}]}`}, "", "10-a.conflist: no plugin but sockmap"},
		"too old for chains": {map[string]string{"10-a.conflist": `{"cniVersion":"0.2.0","name":"a","plugins":[{"type":"ptp"}]}`}, "", "10-a.conflist: cniVersion 0.2.0: sockmap can be chained"},
		"no version": {map[string]string{"10-a.conf": `{"name":"a","type":"ptp"}`}, "",
			"10-a.conf: cniVersion none"},
		"newer than libcni": {map[string]string{"10-a.conflist": `{"cniVersion":"2.0.0","name":"a","plugins":[{"type":"ptp"}]}`}, "", "cniVersion 2.0.0"},
		"no name": {map[string]string{"10-a.conf": `{"cniVersion":"1.0.0","type":"ptp"}`}, "",
			"10-a.conf: the network has no name"},
		"a name that is a path": {map[string]string{"10-a.conflist": strings.ReplaceAll(good, "NAME",
			"../../x")}, "", `name "../../x"`},
		"plugins in its directory": {map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"a"}`}, "",
			`10-a.conflist: no key "plugins"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for file, text := range c.files {
				if err := os.MkdirAll(filepath.Join(p.ConfDir, filepath.Dir(file)), 0o755); err != nil {
					t.Fatal(err)
				}
				p.write(file, text)
			}
			p.ConfName = c.conf
			before := tree(t, p.ConfDir)
			got, err := p.Chain(t.Context())
			if err == nil {
				if got.Network != c.want || !got.Changed {
					t.Errorf("got %+v, want network %q", got, c.want)
				}
				return
			}
			if !strings.Contains(err.Error(), c.want) || got.Changed {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			p.expectTree("after the error", before)
		})
	}
}

func TestNamesOfFilesAreChecked(t *testing.T) {
	for _, name := range []string{"../x.conflist", "/x.conflist", "x/y.conf", "..", "x.json5", "x",
		".conf.bak"} {
		if err := CheckConfName(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"", "10-x.conflist", "10-x.conf", "x.json"} {
		if err := CheckConfName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestFileBehindASymbolicLinkIsWrittenAtItsTarget(t *testing.T) {
	p := newPlace(t)
	elsewhere := filepath.Join(t.TempDir(), "real.conflist")
	if err := errors.Join(os.WriteFile(elsewhere, []byte(conflists[0].text), 0o600),
		os.Symlink(elsewhere, filepath.Join(p.ConfDir, "10-x.conflist"))); err != nil {
		t.Fatal(err)
	}
	before := tree(t, p.ConfDir)
	p.install()
	p.expectTree("the link", before)
	if text, err := os.ReadFile(elsewhere); err != nil || !strings.Contains(string(text), `"sockmap"`) {
		t.Errorf("%v, %s", err, text)
	}
	p.uninstall()
	if text, err := os.ReadFile(elsewhere); err != nil || string(text) != conflists[0].text {
		t.Errorf("%v, %s", err, text)
	}
}
