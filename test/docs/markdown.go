// SPDX-License-Identifier: Apache-2.0

// Package docs reads the documentation as its readers do, so that tests can compare it with the project.
package docs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// File is one Markdown file.
type File struct {
	Path    string   // relative to the root of the repository, with slashes
	Links   []Link   // in the order of the text
	Anchors []string // the possible #fragments
	Code    []string // code spans, and the lines of code blocks with continuation lines joined
	Rows    []string // rows of tables, as written
}

// Link is a link or an image.
type Link struct{ Text, Target string }

// Read reads the Markdown files at the root of the repository, and those below docs, conf, test and .github.
// root is the path of the repository. Folders named testdata or results contain no documentation.
func Read(root string) (files []File, err error) {
	paths, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"docs", "conf", "test", ".github"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && path == filepath.Join(root, dir):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || d.Name() == "results"):
				return fs.SkipDir
			case !d.IsDir() && filepath.Ext(path) == ".md":
				paths = append(paths, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		path, err = filepath.Rel(root, path)
		if err != nil {
			return nil, err
		}
		files = append(files, parse(filepath.ToSlash(path), source))
	}
	return files, nil
}

func parse(path string, source []byte) File {
	f := File{Path: path}
	tree := goldmark.New(goldmark.WithExtensions(extension.Table)).Parser().Parse(text.NewReader(source))
	seen := map[string]int{}
	// The walker never fails.
	_ = ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			f.Anchors = append(f.Anchors, anchor(plain(n, source), seen))
		case *ast.Link:
			f.Links = append(f.Links, Link{plain(n, source), string(n.Destination)})
		case *ast.Image:
			f.Links = append(f.Links, Link{plain(n, source), string(n.Destination)})
		case *ast.CodeSpan:
			f.Code = append(f.Code, plain(n, source))
		case *ast.FencedCodeBlock:
			f.Code = append(f.Code, codeLines(string(n.Lines().Value(source)))...)
		case *ast.CodeBlock:
			f.Code = append(f.Code, codeLines(string(n.Lines().Value(source)))...)
		}
		return ast.WalkContinue, nil
	})
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(line, "|") {
			f.Rows = append(f.Rows, strings.TrimSpace(line))
		}
	}
	for _, m := range htmlAnchor.FindAllSubmatch(source, -1) {
		f.Anchors = append(f.Anchors, string(m[1]))
	}
	return f
}

var htmlAnchor = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)

func codeLines(block string) []string {
	return strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n")
}

// plain is the text of a node without markup.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Segment.Value(source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
			continue
		}
		b.WriteString(plain(c, source))
	}
	return b.String()
}

// anchor is GitHub's anchor of a heading: lower case, without punctuation, with dashes for spaces, and with a
// number if the same anchor occurred before.
func anchor(heading string, seen map[string]int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		}
	}
	slug := b.String()
	n := seen[slug]
	seen[slug]++
	if n > 0 {
		slug += "-" + string(rune('0'+n))
	}
	return slug
}

// Commands returns the command lines of a program in the file: the words after its name, up to a pipe, a
// redirection or a comment.
func (f File) Commands(program string) (all [][]string) {
	for _, line := range f.Code {
		line = strings.TrimSpace(line)
		for _, prompt := range []string{"$ ", "# ", "> "} {
			line = strings.TrimPrefix(line, prompt)
		}
		words := split(line)
		for i, word := range words {
			if word == program && (i == 0 || runsNext(words[i-1])) {
				all = append(all, upToEnd(words[i+1:]))
			}
		}
	}
	return all
}

// runsNext: a program follows these words.
func runsNext(word string) bool {
	return slices.Contains([]string{"sudo", "nice", "--", "|", "&&", "||", ";", "then", "do", "!"}, word) ||
		strings.Contains(word, "=")
}

func upToEnd(words []string) []string {
	for i, w := range words {
		if strings.HasPrefix(w, "#") || strings.HasPrefix(w, ">") ||
			slices.Contains([]string{"|", "&&", "||", ";", "2>"}, w) {
			return words[:i]
		}
	}
	return words
}

// split cuts a line into words as a shell does, as far as the documentation needs it: quotes, and no more.
func split(line string) (words []string) {
	var word strings.Builder
	var quote rune
	inWord := false
	end := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for _, r := range line {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inWord = r, true
		case r == quote:
			quote = 0
		case quote == 0 && r == ';':
			end()
			words = append(words, ";")
		case quote == 0 && unicode.IsSpace(r):
			end()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	end()
	return words
}
