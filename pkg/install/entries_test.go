// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestEntriesAreThoseOfAllFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-a.conflist": `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"},
			{"type":"sockmap","acceptHazards":["splice"]}]}`,
		"20-b.conflist":           `{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"bridge"}]}`,
		"30-broken.conflist":      `{"plugins":[{"type":"sockmap"`,
		"40-c.conflist":           `{"cniVersion":"1.0.0","name":"c","plugins":[{"type":"bridge"},{"type":"sockmap","acceptHazards":3}]}`,
		"notes.txt":               `{"type":"sockmap","acceptHazards":["fin"]}`,
		"b/" + dropInName:         `{"type":"sockmap","acceptHazards":["eagain"]}`,
		"d/50-somebody-else.conf": `{"type":"tuning"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]string
	for _, conf := range Entries(dir) {
		got = append(got, conf.AcceptHazards)
	}
	// A wrong value leaves the default in force, as in the plugin's lenient verbs.
	if diff := cmp.Diff([][]string{{"splice"}, nil, {"eagain"}}, got); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
	if none := Entries(filepath.Join(dir, "none")); len(none) != 0 {
		t.Errorf("a directory that is not there has %d entries", len(none))
	}
}
