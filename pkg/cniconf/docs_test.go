// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func configurationDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CONFIGURATION.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// row returns the cells of the table row that begins with the code word.
func row(t *testing.T, doc, word string) []string {
	t.Helper()
	for line := range strings.Lines(doc) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) > 1 && strings.TrimSpace(cells[0]) == "`"+word+"`" {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			return cells
		}
	}
	t.Errorf("no table row for %s", word)
	return nil
}

func TestEveryKeyIsDocumentedWithDefaultAndAllowedValues(t *testing.T) {
	doc := configurationDoc(t)
	for _, k := range keys() {
		cells := row(t, doc, k.name)
		if len(cells) != 4 {
			t.Errorf("%s: got cells %q, want key, type, default, allowed", k.name, cells)
			continue
		}
		if !strings.HasPrefix(cells[2], "`"+k.def+"`") {
			t.Errorf("%s: the default is %s, documented as %s", k.name, k.def, cells[2])
		}
		if !strings.HasPrefix(cells[3], k.allowed) {
			t.Errorf("%s: allowed is %q, documented as %q", k.name, k.allowed, cells[3])
		}
		if !strings.Contains(doc, "\n### "+k.name+"\n") {
			t.Errorf("%s has no section", k.name)
		}
	}
}

func TestHazardsAnnotationsAndCapabilitiesAreDocumented(t *testing.T) {
	doc := configurationDoc(t)
	for _, h := range Hazards {
		if cells := row(t, doc, h.Name); len(cells) != 3 || cells[1] != string(h.Scope) || cells[2] != h.Summary {
			t.Errorf("%s: got %q, want %q and %q", h.Name, cells, h.Scope, h.Summary)
		}
	}
	_, guards, _ := strings.Cut(doc, "\n### guards\n")
	for _, g := range Guards {
		if cells := row(t, guards, g.Name); len(cells) != 2 || cells[1] != g.Summary {
			t.Errorf("%s: got %q, want %q", g.Name, cells, g.Summary)
		}
	}
	for _, word := range []string{
		AnnotationAccelerate, AnnotationAcceptHazards, CapabilityCgroupPath, CapabilityPodAnnotations,
	} {
		row(t, doc, word)
	}
}

// example returns the JSON block and the text block after it that follow a heading.
func example(t *testing.T, doc, heading string) (in, out string) {
	t.Helper()
	_, section, found := strings.Cut(doc, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no section %q", heading)
	}
	block := func(language string) string {
		_, rest, _ := strings.Cut(section, "```"+language+"\n")
		text, after, found := strings.Cut(rest, "```")
		if !found {
			t.Fatalf("no %s block in section %q", language, heading)
		}
		section = after
		return text
	}
	in = block("json")
	return in, block("text")
}

func TestDocumentedExamplesGiveTheDocumentedText(t *testing.T) {
	doc := configurationDoc(t)
	in, want := example(t, doc, "Wrong values")
	_, err := Parse([]byte(in))
	if err == nil {
		t.Fatal("the wrong values are taken")
	}
	if diff := cmp.Diff(want, err.Error()+"\n"); diff != "" {
		t.Error(diff)
	}
	in, want = example(t, doc, "Unknown keys")
	if diff := cmp.Diff(want, strings.Join(mustParse(t, in).Warnings, "\n")+"\n"); diff != "" {
		t.Error(diff)
	}
}
