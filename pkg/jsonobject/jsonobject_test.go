// SPDX-License-Identifier: Apache-2.0

package jsonobject

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestMembersHaveNamesBytesAndPlaces(t *testing.T) {
	text := []byte(" { \"a\" :1.50, \"A\":{\"b\":[ 1,2]} ,\"a\":\t\"x\" }\n")
	found, err := Members(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ name, value string }{{"a", "1.50"}, {"A", `{"b":[ 1,2]}`}, {"a", `"x"`}}
	if len(found) != len(want) {
		t.Fatalf("%d members, want %d: %v", len(found), len(want), found)
	}
	for i, m := range found {
		if m.Name != want[i].name || string(m.Raw) != want[i].value {
			t.Errorf("member %d is %q: %s, want %q: %s", i, m.Name, m.Raw, want[i].name, want[i].value)
		}
		if at := string(text[m.At : m.At+len(m.Raw)]); at != want[i].value {
			t.Errorf("at %d is %q, want %q", m.At, at, want[i].value)
		}
	}
}

func TestOtherTextsAreRefused(t *testing.T) {
	for _, text := range []string{"[]", `"a"`, "null", "7"} {
		if _, err := Members([]byte(text)); !errors.Is(err, ErrNotObject) {
			t.Errorf("%s: %v, want ErrNotObject", text, err)
		}
	}
	for _, text := range []string{"", "{", `{"a"}`, `{"a":1} x`, `{"a":01}`} {
		var syntax *json.SyntaxError
		if _, err := Members([]byte(text)); !errors.As(err, &syntax) {
			t.Errorf("%q: %v, want a *json.SyntaxError", text, err)
		}
	}
}
