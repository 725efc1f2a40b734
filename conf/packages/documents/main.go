// SPDX-License-Identifier: Apache-2.0

// Command documents copies the documents of a package: documents ROOT DIR URL. These are the Markdown files
// at the root of the repository and everything below docs. A link to a file that is not among them leads to
// URL, where the files of the repository are shown.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: documents ROOT DIR URL")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], strings.TrimSuffix(os.Args[3], "/")); err != nil {
		fmt.Fprintln(os.Stderr, "documents:", err)
		os.Exit(1)
	}
}

func write(root, dir, url string) error {
	names, err := documents(root)
	if err != nil {
		return err
	}
	shipped := map[string]bool{}
	for _, name := range names {
		for ; name != "."; name = path.Dir(name) {
			shipped[name] = true
		}
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if path.Ext(name) == ".md" {
			text = []byte(leadElsewhere(name, string(text), url, shipped))
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// documents lists the files, relative to root and with slashes.
func documents(root string) (names []string, err error) {
	top, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		return nil, err
	}
	for _, file := range top {
		names = append(names, filepath.Base(file))
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(root, file)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}

var link = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// leadElsewhere changes the links of the document name to files that are not shipped. Code blocks stay.
func leadElsewhere(name, text, url string, shipped map[string]bool) string {
	parts := strings.Split(text, "\n```")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = link.ReplaceAllStringFunc(parts[i], func(found string) string {
			target := link.FindStringSubmatch(found)[1]
			file, fragment, has := strings.Cut(target, "#")
			if file == "" || strings.Contains(target, ":") {
				return found
			}
			file = path.Join(path.Dir(name), file)
			if shipped[file] {
				return found
			}
			if has {
				file += "#" + fragment
			}
			return "](" + url + "/" + file + ")"
		})
	}
	return strings.Join(parts, "\n```")
}
