// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// steering is what a terminal obeys: to clear the screen, by one byte and by two, to write backwards, to ring.
const steering = "\x1b[2J\u009b2J\u202eevil\a\x7f"

func steers(text string) bool { return strings.ContainsAny(text, "\x1b\u009b\u202e\a\x7f\r") }

func TestErrorsDoNotSteerTheTerminal(t *testing.T) {
	var out strings.Builder
	err := errors.Join(errors.New("cgroup "+steering), errors.New("and\ta second"))
	if code := report(env{stderr: &out}, "sockmapctl", &failure{err}); code != exitError {
		t.Errorf("code %d", code)
	}
	if steers(out.String()) || !strings.Contains(out.String(), "evil") || !strings.Contains(out.String(), "\nand") {
		t.Errorf("it prints %q", out.String())
	}
}

func TestJSONDoesNotSteerTheTerminal(t *testing.T) {
	want := []string{steering, "plain ünïcode 🙂 \U000e0041"}
	var one, all strings.Builder
	a := &app{env: env{stdout: &one}}
	if err := errors.Join(a.printJSON(want), printArray(&all, want)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{one.String(), all.String()} {
		var got []string
		if err := json.Unmarshal([]byte(text), &got); err != nil || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
		if steers(text) || !strings.Contains(text, "ünïcode 🙂") {
			t.Errorf("it prints %q", text)
		}
	}
}
