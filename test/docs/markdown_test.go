// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"testing"
)

const sample = "# Some *Words*, and `code`\n\n" +
	"# Twice\n\n# Twice\n\n" +
	"See [`TestX`](a_test.go) and ![picture](b.svg).\n\n" +
	"Run `sockmapctl status -o json | jq .node` or `make test`.\n\n" +
	"```console\n# sockmapctl install \\\n    --config '{\"peers\": \"namespace\"}'   # a comment\n" +
	"sockmapctl metrics > file && sockmapctl gc; sudo sockmapctl version\n# this one is about sockmapctl\n```\n\n" +
	"| a | b |\n|---|---|\n| [c](d) | `make e` |\n"

func TestMarkdownIsReadAsItIsShown(t *testing.T) {
	f := parse("x.md", []byte(sample))
	for _, tt := range []struct{ name, got, want string }{
		{"anchors", fmt.Sprint(f.Anchors), "[some-words-and-code twice twice-1]"},
		{"links", fmt.Sprint(f.Links), "[{TestX a_test.go} {picture b.svg} {c d}]"},
		{"commands", fmt.Sprintf("%q", f.Commands("sockmapctl")),
			`[["status" "-o" "json"] ["install" "--config" "{\"peers\": \"namespace\"}"] ["metrics"] ["gc"] ["version"]]`},
		{"targets", fmt.Sprint(f.Commands("make")), "[[test] [e]]"},
		{"rows", fmt.Sprint(len(f.Rows)), "3"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}
