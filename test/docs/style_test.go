// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const columns = 110

var (
	linkTarget = regexp.MustCompile(`\]\([^)]*\)`)
	begin      = regexp.MustCompile(`^<!-- [a-z-]+: begin `)
	end        = regexp.MustCompile(`^<!-- [a-z-]+: end -->`)
)

// textLine is a line of a text that people read.
type textLine struct {
	file string
	n    int
	text string
}

// prose returns the lines of a Markdown file that its author wrote as sentences: no code, no table, no
// heading, and nothing between markers, which programs write.
func prose(file, source string) (lines []textLine) {
	fenced, generated := false, false
	for i, line := range strings.Split(source, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case begin.MatchString(trimmed):
			generated = true
		case end.MatchString(trimmed):
			generated = false
		case strings.HasPrefix(trimmed, "```"):
			fenced = !fenced
		case fenced, generated, trimmed == "", strings.HasPrefix(trimmed, "|"), strings.HasPrefix(trimmed, "#"),
			strings.HasPrefix(trimmed, "!["), strings.HasPrefix(trimmed, "<"), strings.HasPrefix(line, "    "):
		default:
			lines = append(lines, textLine{file, i + 1, line})
		}
	}
	return lines
}

// written are files that programs write from messages.
func written(f File) bool { return f.Path == "docs/CLI.md" || f.Path == "docs/METRICS.md" }

// Targets of links do not count, because they cannot be broken.
func TestProseHasShortLines(t *testing.T) {
	seen := 0
	for _, f := range files(t) {
		if written(f) {
			continue
		}
		for _, l := range prose(f.Path, read(t, f.Path)) {
			seen++
			if n := utf8.RuneCountInString(linkTarget.ReplaceAllString(l.text, "]")); n > columns {
				t.Errorf("%s:%d has %d columns, more than %d", l.file, l.n, n, columns)
			}
		}
	}
	if seen < 1000 {
		t.Errorf("only %d lines were looked at", seen)
	}
}

// tics are turns that readers stumbled over, and the plain words for them. docs/GLOSSARY.md has the terms.
var tics = []struct {
	pattern *regexp.Regexp
	plain   string
}{
	{tic(`told|tells?|telling`), "report, print, distinguish, notify"},
	{tic(`anew`), "again; a pod is recreated"},
	{tic(`whoever|whichever of`), "name the person or the program"},
	{tic(`husks?`), "the term of the glossary"},
	{tic(`by TCP`), "over TCP, uses TCP"},
	{tic(`says? so`), "name what is said"},
	{tic(`somebody else's?|nobody's`), "name the owner"},
	{tic(`all the same`), "still"},
	{tic(`as ever`), "as usual"},
	{tic(`oaths?|swears?|sworn|swore`), "commit to TCP, committed"},
	{tic(`what becomes of|became of|become of`), "the result, the outcome"},
	{tic(`made anew|stands? in for|goes by|went by`), "the plain verb"},
}

func tic(words string) *regexp.Regexp { return regexp.MustCompile(`(?i)\b(?:` + words + `)\b`) }

// allowedTics are lines that may have one, each with its reason.
var allowedTics = []struct{ file, part, why string }{
	{"CHANGELOG.md", "label told", "the old name of a label"},
	{"docs/PERFORMANCE.md", "too few rounds to tell", "an idiom, and the report's words"},
	{"docs/PERFORMANCE.md", "the others went by TCP", "a note in results that are kept"},
}

// ticsIn returns what is wrong with a line.
func ticsIn(l textLine) (wrong []string) {
	for _, tic := range tics {
		found := tic.pattern.FindString(l.text)
		if found == "" || slices.ContainsFunc(allowedTics, func(a struct{ file, part, why string }) bool {
			return a.file == l.file && strings.Contains(l.text, a.part)
		}) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s:%d: %q: write it plainly (%s): %s",
			l.file, l.n, found, tic.plain, strings.TrimSpace(l.text)))
	}
	return wrong
}

func findTics(t *testing.T, lines []textLine) {
	t.Helper()
	for _, l := range lines {
		for _, wrong := range ticsIn(l) {
			t.Error(wrong)
		}
	}
}

func TestTicsAreFound(t *testing.T) {
	source := "# Told\n\nThe reader is told\nby TCP.\n\n```\ntold\n```\n" +
		"<!-- x: begin (written) -->\nanew\n<!-- x: end -->\n"
	lines := prose("x.md", source)
	if len(lines) != 2 || lines[0].n != 3 || lines[1].n != 4 {
		t.Errorf("prose is %v", lines)
	}
	for text, want := range map[string]int{
		"It is told.": 1, "Made anew by TCP": 3, "a bold, untold story": 0, "over TCP": 0,
	} {
		if got := ticsIn(textLine{"x.md", 1, text}); len(got) != want {
			t.Errorf("%q: %q, want %d", text, got, want)
		}
	}
}

func TestDocumentsArePlain(t *testing.T) {
	for _, f := range files(t) {
		var lines []textLine
		for i, line := range strings.Split(read(t, f.Path), "\n") {
			lines = append(lines, textLine{f.Path, i + 1, line})
		}
		findTics(t, lines)
	}
}

// operated are the texts below conf/ that operators read: comments and values of YAML, the notes of the chart,
// units, scripts of the packages and the texts of the dashboard. The manifests are written from the chart.
func operated(t *testing.T) (lines []textLine) {
	t.Helper()
	read := []string{".yaml", ".tpl", ".txt", ".service", ".sh", ".json"}
	err := filepath.WalkDir(filepath.Join(root, "conf"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains(read, filepath.Ext(name)) {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || strings.HasPrefix(filepath.ToSlash(rel), "conf/kubernetes/manifests/") {
			return err
		}
		text, err := os.ReadFile(name)
		for i, line := range strings.Split(string(text), "\n") {
			lines = append(lines, textLine{filepath.ToSlash(rel), i + 1, line})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestTextsOfOperatorsArePlain(t *testing.T) {
	lines := operated(t)
	for _, file := range []string{"conf/monitoring/alerts.yaml", "conf/monitoring/dashboard.json",
		"conf/kubernetes/chart/templates/NOTES.txt", "conf/systemd/agent.yaml",
		"conf/systemd/sockmap-agent.service"} {
		if !slices.ContainsFunc(lines, func(l textLine) bool { return l.file == file }) {
			t.Errorf("%s is not looked at", file)
		}
	}
	findTics(t, lines)
}

// messages returns the string literals of the product: help, errors, what is logged and printed.
func messages(t *testing.T) (lines []textLine) {
	t.Helper()
	for _, top := range []string{"pkg", "plugin"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			found, err := literals(name)
			lines = append(lines, found...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

func literals(name string) (lines []textLine, err error) {
	source, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			return true
		}
		for i, line := range strings.Split(text, "\n") {
			lines = append(lines, textLine{filepath.ToSlash(rel), set.Position(lit.Pos()).Line + i, line})
		}
		return true
	})
	return lines, nil
}

func TestAllowedTicsAreThere(t *testing.T) {
	for _, a := range allowedTics {
		used := slices.ContainsFunc(strings.Split(read(t, a.file), "\n"), func(line string) bool {
			// The line as one of a file without exceptions.
			return strings.Contains(line, a.part) && len(ticsIn(textLine{"", 0, line})) > 0
		})
		if !used {
			t.Errorf("%s: no line needs the exception %q any more (%s)", a.file, a.part, a.why)
		}
	}
}

func TestMessagesArePlain(t *testing.T) {
	lines := messages(t)
	if len(lines) < 3000 {
		t.Errorf("only %d lines were looked at", len(lines))
	}
	findTics(t, lines)
}
