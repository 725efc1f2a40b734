// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// listing is the result of a command that lists items of one kind.
type listing[T any] struct {
	kind  string // of one item; the document's is kind + "List"
	items []T
	table func() *term.Table
	name  func(*T) string // what other commands take for the item
}

// printList prints in the format of -o.
func printList[T any](a *app, l listing[T]) error {
	switch a.output {
	case formatJSON:
		return writeList(a.stdout, l.kind, l.items)
	case formatYAML:
		var text bytes.Buffer
		if err := writeList(&text, l.kind, l.items); err != nil {
			return err
		}
		return a.writeYAML(text.Bytes())
	case formatName:
		for i := range l.items {
			if err := a.say("%s", term.Printable(l.name(&l.items[i]))); err != nil {
				return err
			}
		}
		return nil
	case formatWide:
		return a.printTableIn(l.table(), 0)
	}
	return a.printTable(l.table())
}

// isDocument reports whether -o is json or yaml.
func (a *app) isDocument() bool { return a.output == formatJSON || a.output == formatYAML }

// printDocument writes v, a struct, as one document in the format of -o. Slices in v must not be nil: arrays
// are never null.
func (a *app) printDocument(kind string, v any) error {
	text, err := documentText(kind, v)
	if err != nil {
		return fmt.Errorf("write %s: %w", a.output, err)
	}
	if a.output == formatYAML {
		return a.writeYAML(text)
	}
	if _, err := a.stdout.Write(escaped(text)); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// head is the beginning of each document.
func head(kind string) string {
	return fmt.Sprintf("{\n  \"apiVersion\": %q,\n  \"kind\": %q", apiVersion, kind)
}

func documentText(kind string, v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	fields := bytes.TrimPrefix(out.Bytes(), []byte("{"))
	if bytes.HasPrefix(fields, []byte("}")) {
		return append([]byte(head(kind)+"\n"), fields...), nil
	}
	return append([]byte(head(kind)+","), fields...), nil
}

// writeList writes item by item, because indenting one large text copies it repeatedly.
func writeList[T any](w io.Writer, kind string, all []T) error {
	out := bufio.NewWriterSize(w, 64<<10)
	out.WriteString(head(kind+"List") + ",\n  \"items\": [")
	var piece bytes.Buffer
	enc := json.NewEncoder(&piece)
	enc.SetIndent("    ", "  ")
	enc.SetEscapeHTML(false)
	for i := range all {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n    ")
		piece.Reset()
		if err := enc.Encode(&all[i]); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		out.Write(escaped(bytes.TrimSuffix(piece.Bytes(), []byte("\n"))))
	}
	if len(all) > 0 {
		out.WriteString("\n  ")
	}
	out.WriteString("]\n}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
