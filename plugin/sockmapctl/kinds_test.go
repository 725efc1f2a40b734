// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	printedDocument = regexp.MustCompile(`printDocument\("(\w+)"`)
	printedList     = regexp.MustCompile(`listing\[([\w.]+)\]\{\s*kind:\s*"(\w+)"`)
)

// unpublished are kinds of documents without a promise.
var unpublished = map[string]string{
	"CommandTree": "printed by a hidden command, for the build of packages",
}

// printedKinds are the kinds that the commands print, by the source, with the type of the items of lists.
func printedKinds(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range printedDocument.FindAllStringSubmatch(string(text), -1) {
			kinds[m[1]] = ""
		}
		for _, m := range printedList.FindAllStringSubmatch(string(text), -1) {
			kinds[m[2]+"List"] = m[1]
		}
		lists, found := strings.Count(string(text), "printList(a"), printedList.FindAllString(string(text), -1)
		if lists != len(found) {
			t.Errorf("%s prints %d lists, and the kind of %d is understood", file, lists, len(found))
		}
	}
	return kinds
}

// docs/JSON.md says that CLI.md has the fields of each kind.
func TestEachKindHasItsTableOfFields(t *testing.T) {
	cli, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "JSON.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := map[string]string{}
	for words := range documentedViews() {
		command[documentKinds[words]] = words
	}
	kinds := printedKinds(t)
	if len(kinds) < 12 {
		t.Fatalf("only %q are printed", slices.Sorted(maps.Keys(kinds)))
	}
	for kind, item := range kinds {
		if unpublished[kind] != "" {
			continue
		}
		words := command[kind]
		if words == "" {
			t.Errorf("documentedViews has no %s", kind)
			continue
		}
		if item != "" {
			documented := reflect.TypeOf(documentedViews()[words]).Elem().Elem().String()
			if strings.TrimPrefix(documented, "main.") != item {
				t.Errorf("%s is documented as a list of %s, and is one of %s", kind, documented, item)
			}
		}
		if !strings.Contains(string(cli), "\nFields of `"+words+" -o json` and `-o yaml`, kind `"+kind+"`") {
			t.Errorf("docs/CLI.md has no table of the fields of %s", kind)
		}
		if !strings.Contains(string(page), "`"+kind+"`") || !strings.Contains(string(page), "`"+words+"`") {
			t.Errorf("docs/JSON.md does not have %s, the kind of %s", kind, words)
		}
	}
	for words, kind := range documentKinds {
		if _, ok := kinds[kind]; !ok {
			t.Errorf("no command prints %s, the kind of %s", kind, words)
		}
	}
	for kind := range unpublished {
		if _, ok := kinds[kind]; !ok {
			t.Errorf("no command prints %s", kind)
		}
	}
}
