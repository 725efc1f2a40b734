// SPDX-License-Identifier: Apache-2.0

// Report writes what the conformance suite has found as a table: a row for each
// case that differs, with the reason.
//
//	report RESULT.json...
//	report -into docs/TRANSPARENCY.md RESULT.json...
//
// With -into it replaces what stands between two marked lines of a document.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
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
	if f.NArg() == 0 {
		return errors.New("write table: no result given (run conformance -json FILE)")
	}
	var reports []*suite.Report
	for _, name := range f.Args() {
		r, err := read(name)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	text := Table(reports)
	if *into == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	document, err := os.ReadFile(*into)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	replaced, err := Replace(string(document), text)
	if err != nil {
		return fmt.Errorf("update %s: %w", *into, err)
	}
	return os.WriteFile(*into, []byte(replaced), 0o644)
}

func read(name string) (*suite.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open result: %w", err)
	}
	defer f.Close()
	r, err := suite.ReadReport(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}
