// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestDropInWorksForListsOfEveryShape(t *testing.T) {
	for _, c := range conflists {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.DropIn = true
			p.write(c.file, c.text)
			before := tree(t, p.ConfDir)
			name, version, types := loadedFirst(t, p.ConfDir)
			got := p.install()
			if p.read(c.file) != c.text || got.Path != filepath.Join(p.ConfDir, name, dropInName) {
				t.Errorf("the list was changed, or %s written", got.Path)
			}
			gotName, gotVersion, gotTypes := loadedFirst(t, p.ConfDir)
			if gotName != name || gotVersion != version || !slices.Equal(gotTypes, append(types, PluginType)) {
				t.Errorf("libcni loads %s %s %q", gotName, gotVersion, gotTypes)
			}
			if again := p.install(); again.Changed {
				t.Errorf("a second call changes %+v", again)
			}
			p.expectNoLeftovers()
			p.uninstall()
			p.expectTree("after uninstall", before)
		})
	}
}

func TestEntryIsInTheListOrInItsDropIn(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	for _, dropIn := range []bool{false, true, false, true} {
		p.DropIn = dropIn
		p.install()
		_, _, types := loadedFirst(t, p.ConfDir)
		if n := len(slices.DeleteFunc(types, func(s string) bool { return s != PluginType })); n != 1 {
			t.Errorf("drop-in %v: the plugin is there %d times", dropIn, n)
		}
		if inline := strings.Contains(p.read("10-a.conflist"), `"sockmap"`); inline == dropIn {
			t.Errorf("drop-in %v: it is in the list: %v", dropIn, inline)
		}
	}
	// If the network is renamed, the drop-in moves with it.
	p.write("10-a.conflist", strings.Replace(conflists[0].text, "k8s-pod-network", "renamed", 1))
	p.install()
	if left := names(tree(t, p.ConfDir)); !slices.Equal(left,
		[]string{".", "10-a.conflist", "renamed", "renamed/90-sockmap.conf"}) {
		t.Errorf("left: %q", left)
	}
}

func TestDropInIsRefusedWhereItHasNoEffect(t *testing.T) {
	for name, c := range map[string]struct{ file, text, other, want string }{
		"a .conf": {"10-a.conf", `{"cniVersion":"1.0.0","name":"a","type":"ptp"}`, "",
			"only lists have a directory"},
		"inlined only": {"10-a.conflist",
			`{"cniVersion":"1.0.0","name":"a","loadOnlyInlinedPlugins":true,"plugins":[{"type":"ptp"}]}`, "",
			"loadOnlyInlinedPlugins"},
		"a broken neighbour": {"10-a.conflist", `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"ptp"}]}`,
			"{", "cannot chain into "},
		"no plugin before it": {"10-a.conflist", `{"cniVersion":"1.0.0","name":"a"}`, "",
			"has a plugin that makes the interface"},
		"one before it": {"10-a.conflist", `{"cniVersion":"1.0.0","name":"a"}`, `{"type":"ptp"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.DropIn = true
			p.write(c.file, c.text)
			if c.other != "" {
				if err := os.Mkdir(filepath.Join(p.ConfDir, "a"), 0o755); err != nil {
					t.Fatal(err)
				}
				p.write("a/10-other.conf", c.other)
			}
			before := tree(t, p.ConfDir)
			_, err := p.Chain(t.Context())
			if c.want == "" {
				if _, _, types := loadedFirst(t, p.ConfDir); err != nil ||
					!slices.Equal(types, []string{"ptp", PluginType}) {
					t.Errorf("%v, plugins %q", err, types)
				}
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
			p.expectTree("after the error", before)
		})
	}
}

// The plugin accepts the entry of the drop-in.
func TestPluginOfADropInIsCalled(t *testing.T) {
	p := newPlace(t)
	n := newNode(t, p)
	p.DropIn = true
	p.write("10-primary.conflist", primary(t, n))
	p.install()
	// The list as a runtime sees it that loads files.
	_, _, types := loadedFirst(t, p.ConfDir)
	if types[len(types)-1] != PluginType {
		t.Fatalf("plugins are %q", types)
	}
	pod := labtest.NewPod(t, n, lab.PodSpec{})
	if err := addFromFiles(t, p, n, pod); err != nil {
		t.Fatal(err)
	}
	node := &endpoint.Node{Dir: n.BPFFS()}
	if records, err := node.Attachments(t.Context()); err != nil || len(records) != 1 {
		t.Errorf("the plugin was not called: %v, %v", records, err)
	}
}

// addFromFiles joins the list and the files in its directory, as libcni does, because the lab takes text.
func addFromFiles(t *testing.T, p *place, n *lab.Node, pod *lab.Pod) error {
	t.Helper()
	l := mustRead(t, p.read("10-primary.conflist"))
	text := l.with(Entry{text: []byte(p.read("primary/" + dropInName))})
	_, err := n.ADD(t.Context(), text, pod)
	return err
}
