// SPDX-License-Identifier: Apache-2.0

// Package marked replaces the text between two marked lines of a document, and leaves the rest unchanged.
package marked

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Section is the part of a document that a make target writes.
type Section struct {
	Name    string // name in the marked lines
	Target  string // target of make, or
	Command string // another command that writes it
}

// Begin is the line above the section.
func (s Section) Begin() string {
	return fmt.Sprintf("<!-- %s: begin (written by %s, do not edit) -->\n", s.Name,
		cmp.Or(s.Command, "make "+s.Target))
}

// End is the line below the section.
func (s Section) End() string { return fmt.Sprintf("<!-- %s: end -->\n", s.Name) }

// Replace puts text between the marked lines of document.
func (s Section) Replace(document, text string) (string, error) {
	before, rest, begun := strings.Cut(document, s.Begin())
	_, after, ended := strings.Cut(rest, s.End())
	if !begun || !ended {
		return "", fmt.Errorf("find the lines %q and %q: not there", strings.TrimSpace(s.Begin()),
			strings.TrimSpace(s.End()))
	}
	return before + s.Begin() + text + s.End() + after, nil
}

// Into puts text between the marked lines of the document at path.
func (s Section) Into(path, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	replaced, err := s.Replace(string(document), text)
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644)
}

// Put is Into, or prints the text to out where path is empty.
func (s Section) Put(out io.Writer, path, text string) error {
	if path != "" {
		return s.Into(path, text)
	}
	_, err := io.WriteString(out, text)
	return err
}

// Report is a command that makes a table of results, whose names are its arguments. It prints the table to
// out, or puts it into the document that the flag -into names. need says what is missing if there are no
// arguments.
func (s Section) Report(out io.Writer, args []string, need string,
	table func(names []string) (string, error)) error {
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	into := f.String("into", "", "replace the table in this `document`")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return errors.New("write table: " + need)
	}
	text, err := table(f.Args())
	if err != nil {
		return err
	}
	return s.Put(out, *into, text)
}
