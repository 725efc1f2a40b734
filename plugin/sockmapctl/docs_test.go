// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"github.com/spf13/cobra"
)

const cliPreamble = `<!-- Generated from plugin/sockmapctl: go test ./plugin/sockmapctl -update -->

`

// cliDoc is docs/CLI.md: the texts of the help, and the fields of the JSON.
func cliDoc(t *testing.T) string {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	var b strings.Builder
	b.WriteString(cliPreamble)
	fmt.Fprintf(&b, "# sockmapctl\n\n```text\n%s\n```\n", root.Long)
	section(&b, "Flags of every command", root.PersistentFlags().FlagUsages())
	for _, group := range root.Groups() {
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID {
				commandDoc(t, &b, cmd)
			}
		}
	}
	for _, cmd := range root.Commands() {
		if cmd.Hidden {
			continue
		}
		for _, sub := range cmd.Commands() {
			commandDoc(t, &b, sub)
		}
	}
	return b.String()
}

func section(b *strings.Builder, title, text string) {
	if text != "" {
		fmt.Fprintf(b, "\n%s:\n\n```text\n%s\n```\n", title, strings.TrimRight(text, "\n"))
	}
}

func commandDoc(t *testing.T, b *strings.Builder, cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n```text\n%s\n```\n\n%s\n", cmd.CommandPath(), cmd.UseLine(), text)
	section(b, "Flags", cmd.LocalNonPersistentFlags().FlagUsages())
	section(b, "Examples", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	all := documentedViews()
	for _, words := range slices.Sorted(maps.Keys(all)) {
		if name, _, _ := strings.Cut(words, " "); cmd.CommandPath() != cmd.Root().Name()+" "+name {
			continue
		}
		typ, of := reflect.TypeOf(all[words]).Elem(), ""
		if typ.Kind() == reflect.Slice {
			typ, of = typ.Elem(), ", in each of `items`"
		}
		fmt.Fprintf(b, "\nFields of `%s -o json` and `-o yaml`, kind `%s`%s (see [JSON.md](JSON.md)):\n\n"+
			"| field | type | meaning |\n|---|---|---|\n", words, documentKinds[words], of)
		fieldDoc(t, b, "", typ)
	}
}

// itemKinds are the kinds of the lists that have a table of fields, by the type of their items.
func itemKinds() map[reflect.Type]string {
	all := map[reflect.Type]string{}
	for words, view := range documentedViews() {
		if typ := reflect.TypeOf(view).Elem(); typ.Kind() == reflect.Slice {
			all[typ.Elem()] = documentKinds[words]
		}
	}
	return all
}

// fieldDoc writes one line for each field, those of nested objects behind their names. An object that is an
// item of another kind refers to its table.
func fieldDoc(t *testing.T, b *strings.Builder, prefix string, typ reflect.Type) {
	if typ.Kind() == reflect.Slice {
		fieldDoc(t, b, prefix+"[]", typ.Elem())
		return
	}
	if prefix != "" {
		prefix += "."
	}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		doc := f.Tag.Get("doc")
		if doc == "" {
			t.Errorf("%s%s has no documentation", prefix, name)
		}
		inner, kind := f.Type, ""
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		kind = jsonType(inner)
		if list := itemKinds()[inner]; list != "" {
			fmt.Fprintf(b, "| `%s%s` | %s, as in `items` of `%s` | %s |\n", prefix, name, kind, list, doc)
			continue
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, name, kind, doc)
		switch {
		case kind == "object" && inner.Kind() == reflect.Struct:
			fieldDoc(t, b, prefix+name, inner)
		case kind == "array" && inner.Elem().Kind() == reflect.Struct:
			fieldDoc(t, b, prefix+name+"[]", inner.Elem())
		}
	}
}

func jsonType(typ reflect.Type) string {
	if typ == reflect.TypeFor[time.Time]() {
		return "time (RFC 3339)"
	}
	if _, ok := typ.MethodByName("MarshalText"); ok {
		return "string"
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	}
	return "number"
}

func TestCommandsAreDocumented(t *testing.T) {
	golden.Check(t, filepath.Join("..", "..", "docs", "CLI.md"), cliDoc(t))
}

func TestEveryCommandHelpsWithAnExampleInEightyColumns(t *testing.T) {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	for _, cmd := range append(root.Commands(), root) {
		if !cmd.HasExample() || !strings.HasPrefix(cmd.Example, "  sockmapctl ") && cmd.Name() != "help" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s has the short text %q", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len(line) > 100 || len(line) > 81 && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), len(line)-1, line)
			}
		}
	}
}

var flagWord = regexp.MustCompile(`^--?[a-z][a-z-]*$`)

// flagsOfOthers are flags of other programs and commands, by the command whose description names them.
var flagsOfOthers = map[string]string{
	"detach": "-o", "tap": "-r", "top": "--watch", "uninstall-nodes": "--uninstall",
}

func TestDescriptionsNameFlagsThatTheCommandHas(t *testing.T) {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	for _, cmd := range root.Commands() {
		for word := range strings.FieldsSeq(cmd.Long) {
			word = strings.Trim(word, ".,:;()'")
			if !flagWord.MatchString(word) || word == flagsOfOthers[cmd.Name()] {
				continue
			}
			name := strings.TrimLeft(word, "-")
			if root.PersistentFlags().Lookup(name) == nil && cmd.Flags().Lookup(name) == nil &&
				(len(name) > 1 || cmd.Flags().ShorthandLookup(name) == nil) {
				t.Errorf("%s has no flag %s", cmd.CommandPath(), word)
			}
		}
	}
}

// Attachments and entries of avoided have one end, and no address.
func TestFiltersAreDescribedForWhatTheCommandLists(t *testing.T) {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	for _, cmd := range root.Commands() {
		_, text, filters := strings.Cut(cmd.Long, "A filter takes")
		if !filters {
			continue
		}
		want := cmd.Flags().Lookup("address") != nil
		for what, got := range map[string]string{
			"description": text, "pod": cmd.Flags().Lookup("pod").Usage, "netns": cmd.Flags().Lookup("netns").Usage,
			"namespace": cmd.Flags().Lookup("namespace").Usage,
		} {
			if strings.Contains(got, "either end") != want {
				t.Errorf("%s, %s: speaks of two ends: %v, want %v: %s", cmd.CommandPath(), what, !want, want, got)
			}
		}
	}
}

var commandUse = regexp.MustCompile(`(?m)^\t+Use: +"([a-z-]+)`)

// A command is looked for in the file of its name: that of docs tree is docs_tree.go, that of sockmapctl
// root.go.
func TestEachCommandHasAFileOfItsName(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{"sockmapctl": "root.go", "tree": "docs_tree.go"}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, use := range commandUse.FindAllSubmatch(text, -1) {
			found++
			name := string(use[1])
			want := cmp.Or(of[name], strings.ReplaceAll(name, "-", "_")+".go")
			if strings.Replace(file, "_lean.go", ".go", 1) != want { // what a build without it has
				t.Errorf("the command %s is in %s, want %s", name, file, want)
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d commands were found", found)
	}
}
