// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
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

var update = flag.Bool("update", false,
	"write the tables of docs/CONFIGURATION.md and the chart's values.schema.json")

const updateCommand = "go test ./pkg/cniconf -update"

var (
	configuration = filepath.Join("..", "..", "docs", "CONFIGURATION.md")
	chartSchema   = filepath.Join("..", "..", "conf", "kubernetes", "chart", "values.schema.json")
)

// generated replaces parts of a file, or compares them with what is there.
func generated(t *testing.T, path string, replace func(text string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := replace(string(text))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), want); diff != "" {
		t.Errorf("%s is not as the tables of pkg/cniconf and pkg/hazard say (%s): %s", path, updateCommand, diff)
	}
}

// withTable replaces the rows of the table with this header.
func withTable(t *testing.T, doc, header string, rows []string) string {
	t.Helper()
	before, after, found := strings.Cut(doc, "\n"+header+"\n")
	line, rest, _ := strings.Cut(after, "\n")
	if !found {
		t.Fatalf("no table %s", header)
	}
	for strings.HasPrefix(rest, "|") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return before + "\n" + header + "\n" + line + "\n" + strings.Join(rows, "\n") + "\n" + rest
}

func noted(text, note string) string {
	if note == "" {
		return text
	}
	return text + " (" + note + ")"
}

func TestTablesOfTheConfigurationAreThoseOfTheCode(t *testing.T) {
	var ofKeys, ofHazards, ofGuards []string
	for _, k := range keys() {
		ofKeys = append(ofKeys, fmt.Sprintf("| `%s` | %s | %s | %s |", k.name, k.kind,
			noted("`"+k.def+"`", k.note.def),
			noted(k.allowed, k.note.allowed)))
	}
	for _, h := range hazard.Table {
		ofHazards = append(ofHazards, fmt.Sprintf("| `%s` | %s | %s |", h.Name, h.Scope, h.Meaning))
	}
	for _, g := range hazard.Guards {
		ofGuards = append(ofGuards, fmt.Sprintf("| `%s` | %s |", g.Name, g.Meaning))
	}
	generated(t, configuration, func(doc string) string {
		doc = withTable(t, doc, "| key | type | default | allowed |", ofKeys)
		doc = withTable(t, doc, "| hazard | of the | what an application sees |", ofHazards)
		doc = withTable(t, doc, "| guard | what it does |", ofGuards)
		in, want := example(t, doc, "Wrong values")
		_, err := Parse([]byte(in))
		if err == nil {
			t.Fatal("the wrong values are taken")
		}
		return strings.Replace(doc, want, err.Error()+"\n", 1)
	})
}

func TestEveryKeyHasItsSection(t *testing.T) {
	doc := configurationDoc(t)
	for _, k := range keys() {
		if !strings.Contains(doc, "\n### "+k.name+"\n") {
			t.Errorf("%s has no section in %s", k.name, configuration)
		}
	}
}

// TestChartsSchemaHasTheKeys writes cni.config of the chart, one key a line, and the names of hazards.
func TestChartsSchemaHasTheKeys(t *testing.T) {
	var properties []string
	for _, k := range keys() {
		if k.schema != "" {
			properties = append(properties, fmt.Sprintf("            %q: %s", k.name, k.schema))
		}
	}
	generated(t, chartSchema, func(schema string) string {
		_, config, _ := strings.Cut(schema, "\n        \"config\": {")
		_, config, _ = strings.Cut(config, "\n          \"properties\": {\n")
		old, _, found := strings.Cut(config, "\n          }\n")
		if !found {
			t.Fatal("the schema has no cni.config")
		}
		schema = strings.Replace(schema, old, strings.Join(properties, ",\n"), 1)
		_, old, _ = strings.Cut(schema, "\n    \"hazard\": {")
		old, _, _ = strings.Cut(old, "}")
		names := strings.Join(hazardNames(hazard.ScopePod, hazard.ScopeNode), "\",\n        \"")
		return strings.Replace(schema, old, "\n      \"enum\": [\n        \""+names+"\"\n      ]\n    ", 1)
	})
	text, err := os.ReadFile(chartSchema)
	if err != nil || !json.Valid(text) {
		t.Errorf("the schema is no JSON (%v)", err)
	}
}

func TestAnnotationsAndCapabilitiesAreDocumented(t *testing.T) {
	doc := configurationDoc(t)
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
	in, want := example(t, doc, "Unknown keys")
	if diff := cmp.Diff(want, strings.Join(mustParse(t, in).Warnings, "\n")+"\n"); diff != "" {
		t.Error(diff)
	}
}
