// SPDX-License-Identifier: Apache-2.0

// Report writes what the tests of runtimes have found as a table.
//
//	report DIRECTORY                             prints it
//	report -into docs/RUNTIMES.md DIRECTORY      replaces what stands between two marked lines of the document
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/row"
)

// The lines of the document between which the table stands.
const (
	begin = "<!-- runtimes: begin (written by make docs, do not edit) -->\n"
	end   = "<!-- runtimes: end -->\n"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	into := f.String("into", "", "replace the table in this `document`")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return errors.New("write table: one directory of rows is needed (make test-runtimes leaves .cache/runtimes)")
	}
	rows, err := row.ReadAll(f.Arg(0))
	if err != nil {
		return err
	}
	text := table(rows)
	if *into == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	document, err := os.ReadFile(*into)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	replaced, err := replace(string(document), text)
	if err != nil {
		return fmt.Errorf("update %s: %w", *into, err)
	}
	return os.WriteFile(*into, []byte(replaced), 0o644)
}

func table(rows []row.Row) string {
	var b strings.Builder
	b.WriteString("| runtime | what was run | where the cgroup came from | calls of sockmap | result |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			cell(r.Runtime), cell(r.Version), cell(r.Cgroup), cell(strings.Join(r.Calls, ", ")), cell(r.Result))
	}
	return b.String()
}

// cell keeps a text inside its cell.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

func replace(document, text string) (string, error) {
	before, rest, begun := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return "", fmt.Errorf("find the lines %q and %q: not there", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + text + end + after, nil
}
