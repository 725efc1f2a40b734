// SPDX-License-Identifier: Apache-2.0

// Report writes the results of the tests of runtimes as a table.
//
//	report DIRECTORY...                          prints it
//	report -into docs/RUNTIMES.md DIRECTORY...   replaces the text between two marked lines of the document
//
// The directory seldom has rows of tests that make test does not run.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/row"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

// The table is between the marked lines of the document.
var section = marked.Section{Name: "runtimes", Target: "docs"}

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	const need = "directories of rows needed (make test-runtimes writes .cache/runtimes)"
	return section.Report(out, args, need, func(dirs []string) (string, error) {
		rows, err := row.ReadAll(dirs...)
		if err != nil {
			return "", err
		}
		return table(rows), nil
	})
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

// cell escapes a text for a cell of the table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
