// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"testing"
)

// nerdctl keeps the networks of each namespace in a directory. They all use the same plugin, so it must stay
// while one of these lists names it.
func TestListsInSubdirectoriesAreRestoredBeforeThePluginIsRemoved(t *testing.T) {
	p := newPlace(t)
	const text = `{"cniVersion":"1.0.0","name":"shop","plugins":[{"type":"bridge"}]}`
	below := filepath.Join(p.ConfDir, "default")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(below, "nerdctl-shop.conflist")
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p.write("nerdctl-bridge.conflist", conflists[0].text)
	p.install()
	other := *p.Installer
	other.ConfDir = below
	if _, err := other.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(list); err != nil || string(got) == text {
		t.Fatalf("the list below was not changed: %s, %v", got, err)
	}
	done := p.uninstall()
	if len(done.Unchained) != 2 || !done.Binary {
		t.Errorf("uninstalled: %+v", done)
	}
	if got, err := os.ReadFile(list); err != nil || string(got) != text {
		t.Errorf("the list below is %s, %v", got, err)
	}
}
