// SPDX-License-Identifier: Apache-2.0

// Command changelog writes the changelog of the deb package: changelog VERSION MAINTAINER DATE, with
// CHANGELOG.md on standard input. The first entry is that of VERSION: the section of this version, or that of
// unreleased changes. The entries of older releases follow.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: changelog VERSION MAINTAINER DATE <CHANGELOG.md")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Stdin, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "changelog:", err)
		os.Exit(1)
	}
}

// section is one version of CHANGELOG.md.
type section struct {
	version string // without v; "Unreleased"
	date    string // as written; empty for unreleased changes
	lines   []string
}

var (
	heading   = regexp.MustCompile(`^## \[?v?([^\]\s]+)\]?(?: - (\d{4}-\d\d-\d\d))?`)
	reference = regexp.MustCompile(`^\[[^\]]+\]: `)
	linked    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

const unreleased = "Unreleased"

func read(in io.Reader) (all []section, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		if m := heading.FindStringSubmatch(line); m != nil {
			all = append(all, section{version: m[1], date: m[2]})
		} else if len(all) > 0 && !reference.MatchString(line) {
			last := &all[len(all)-1]
			last.lines = append(last.lines, line)
		}
	}
	if lines.Err() == nil && len(all) == 0 {
		return nil, errors.New("there are no versions (## [1.2.3] - 2026-01-31)")
	}
	return all, lines.Err()
}

func write(out io.Writer, in io.Reader, version, maintainer, date string) error {
	all, err := read(in)
	if err != nil {
		return err
	}
	first := 0
	for i, s := range all {
		// The names of versions before a release differ: 1.2.3-rc.1 is the package 1.2.3~rc.1.
		if strings.Replace(s.version, "-", "~", 1) == version {
			first = i
			break
		}
	}
	for i, s := range all[first:] {
		at := date
		if i > 0 {
			if s.date == "" {
				continue
			}
			day, err := time.Parse(time.DateOnly, s.date)
			if err != nil {
				return err
			}
			version, at = strings.Replace(s.version, "-", "~", 1), day.Format(time.RFC1123Z)
		}
		fmt.Fprintf(out, "sockmap-cni (%s) unstable; urgency=medium\n\n%s\n -- %s  %s\n", version,
			changes(s.lines), maintainer, at)
		if i < len(all[first:])-1 {
			fmt.Fprintln(out)
		}
	}
	return nil
}

// changes are the items of a section in the form of a deb's changelog: a list without headings of Markdown.
func changes(lines []string) string {
	var out strings.Builder
	var item []string
	end := func() {
		if len(item) > 0 {
			out.WriteString(wrap(linked.ReplaceAllString(strings.Join(item, " "), "$1")))
		}
		item = nil
	}
	table := 0 // rows of this table so far
	for _, line := range lines {
		if !strings.HasPrefix(line, "|") {
			table = 0
		}
		text := strings.TrimSpace(line)
		switch {
		case text == "":
			end()
		case strings.HasPrefix(text, "### "):
			end()
			if out.Len() > 0 {
				out.WriteByte('\n')
			}
			fmt.Fprintf(&out, "  [ %s ]\n", strings.TrimPrefix(text, "### "))
		case strings.HasPrefix(text, "|"):
			end()
			if table++; table > 2 { // behind its head
				item = []string{strings.Join(strings.Split(strings.Trim(text, "| "), " | "), ": ")}
				end()
			}
		case strings.HasPrefix(text, "- "):
			end()
			item = []string{strings.TrimPrefix(text, "- ")}
		default:
			item = append(item, text)
		}
	}
	end()
	return out.String()
}

// wrap breaks an item into lines of 80 columns.
func wrap(item string) string {
	var out strings.Builder
	line := "  *"
	for _, word := range strings.Fields(item) {
		if len(line)+1+len(word) > 80 {
			out.WriteString(line + "\n")
			line = "   "
		}
		line += " " + word
	}
	out.WriteString(line + "\n")
	return out.String()
}
