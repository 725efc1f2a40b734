// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"bytes"
	"fmt"
)

// FieldError says that one value of a well-formed configuration cannot be used: CNI error code 7.
type FieldError struct {
	Key     string // as a path into the configuration: ports.include[2]
	Value   string // the value, as JSON on one line, cut when it is long
	Allowed string // describes the values that are allowed
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %s is not %s", e.Key, e.Value, e.Allowed)
}

// SyntaxError says that standard input is not one JSON object: CNI error code 6.
type SyntaxError struct {
	Offset       int64 // bytes read when it was noticed
	Line, Column int   // the same place for a person, both from 1; Column counts bytes
	Err          error
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("decode configuration: line %d, column %d (byte %d): %v", e.Line, e.Column, e.Offset,
		e.Err)
}

// Unwrap returns what the decoder said.
func (e *SyntaxError) Unwrap() error { return e.Err }

func syntaxError(stdin []byte, offset int64, err error) *SyntaxError {
	before := stdin[:min(offset, int64(len(stdin)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	// The decoder counts the byte that it stumbled over as read.
	column := max(1, len(before)-1-bytes.LastIndexByte(before, '\n'))
	return &SyntaxError{Offset: offset, Line: line, Column: column, Err: err}
}
