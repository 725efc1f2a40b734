// SPDX-License-Identifier: Apache-2.0

// Package stub makes a plugin binary that does nothing any more, and recognises such a binary.
//
// CRI-O and podman call DEL with the configuration that they cached at ADD, so the plugin's path must work
// after an uninstall, until all containers are gone for which the plugin was called. A stub is the plugin's
// binary with a mark at its end, which ELF loaders ignore. The binary looks for the mark in its own file. So
// one rename turns the plugin into a stub, and no second file has to be kept in step.
package stub

import (
	"bytes"
	"io"
	"os"
)

// mark is at the end of the file of a stub.
var mark = []byte("\nsockmap-cni: uninstalled\n")

// Self reports whether the running program is a stub. It is false if that cannot be read.
func Self() bool {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false
	}
	return Marked(f, st.Size())
}

// Marked reports whether a binary of size bytes is a stub.
func Marked(binary io.ReaderAt, size int64) bool {
	tail := make([]byte, len(mark))
	if size < int64(len(tail)) {
		return false
	}
	_, err := binary.ReadAt(tail, size-int64(len(tail)))
	return (err == nil || err == io.EOF) && bytes.Equal(tail, mark)
}

// Of returns a reader of the stub for a binary of size bytes, which may be a stub already.
func Of(binary io.ReaderAt, size int64) io.Reader {
	whole := io.NewSectionReader(binary, 0, size)
	if Marked(binary, size) {
		return whole
	}
	return io.MultiReader(whole, bytes.NewReader(mark))
}
