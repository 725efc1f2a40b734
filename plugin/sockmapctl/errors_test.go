// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// steering are control sequences that a terminal obeys: to clear the screen (one byte, and two), to write
// backwards, to ring.
const steering = "\x1b[2J\u009b2J\u202eevil\a\x7f"

func steersTerminal(text string) bool { return strings.ContainsAny(text, "\x1b\u009b\u202e\a\x7f\r") }

func TestErrorsDoNotSteerTheTerminal(t *testing.T) {
	var out strings.Builder
	err := errors.Join(errors.New("cgroup "+steering), errors.New("and\ta second"))
	if code := report(env{stderr: &out}, "sockmapctl", &failure{err}); code != exitError {
		t.Errorf("code %d", code)
	}
	if steersTerminal(out.String()) || !strings.Contains(out.String(), "evil") ||
		!strings.Contains(out.String(), "\nand") {
		t.Errorf("it prints %q", out.String())
	}
}

func TestDocumentsDoNotSteerTheTerminal(t *testing.T) {
	type view struct {
		Name string `json:"name"`
	}
	want := []view{{steering}, {"plain ünïcode 🙂 \U000e0041"}}
	for _, format := range []string{formatJSON, formatYAML} {
		for _, w := range want {
			var one, all strings.Builder
			a, b := &app{env: env{stdout: &one}, output: format}, &app{env: env{stdout: &all}, output: format}
			if err := errors.Join(a.printDocument("Name", w),
				printList(b, listing[view]{kind: "Name", items: []view{w}})); err != nil {
				t.Fatal(err)
			}
			var got struct{ Name string }
			var list struct{ Items []struct{ Name string } }
			decode := yaml.Unmarshal
			if format == formatJSON {
				decode = json.Unmarshal
			}
			if err := errors.Join(decode([]byte(one.String()), &got),
				decode([]byte(all.String()), &list)); err != nil ||
				got.Name != w.Name || len(list.Items) != 1 || list.Items[0].Name != w.Name {
				t.Errorf("%q and %q are read as %q and %q, %v", one.String(), all.String(), got, list, err)
			}
			if steersTerminal(one.String() + all.String()) {
				t.Errorf("it prints %q and %q", one.String(), all.String())
			}
		}
	}
}
