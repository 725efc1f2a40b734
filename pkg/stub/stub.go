// SPDX-License-Identifier: Apache-2.0

// Package stub makes a plugin binary that does nothing any more, and tells such a binary what it is.
//
// CRI-O and podman run DEL from the configuration that they cached at ADD, so a plugin must answer after it was
// uninstalled, for as long as a container lives that it was called for. A stub is the plugin's binary with a mark
// at its end, which loaders of ELF ignore. The binary looks for the mark in its own file, so whether it is a stub
// goes with the file, by one rename, and no second file has to be there, or be gone, at the right moment.
package stub

import (
	"bytes"
	"io"
	"os"
)

// mark is what the file of a stub ends with.
var mark = []byte("\nsockmap-cni: uninstalled\n")

// Self tells whether the running program is a stub. Where that cannot be seen it is none.
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

// Marked tells whether a binary of size bytes is a stub.
func Marked(binary io.ReaderAt, size int64) bool {
	tail := make([]byte, len(mark))
	if size < int64(len(tail)) {
		return false
	}
	_, err := binary.ReadAt(tail, size-int64(len(tail)))
	return (err == nil || err == io.EOF) && bytes.Equal(tail, mark)
}

// Of returns a reader of the stub of a binary of size bytes, which may be a stub already.
func Of(binary io.ReaderAt, size int64) io.Reader {
	whole := io.NewSectionReader(binary, 0, size)
	if Marked(binary, size) {
		return whole
	}
	return io.MultiReader(whole, bytes.NewReader(mark))
}
