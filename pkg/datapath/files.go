// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// isThere reports whether a name exists. It follows no symbolic link.
func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removeIfThere removes a pin, a mark or an empty directory. It is no error if there is none.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// field returns the value behind a name in a file of /proc, without spaces; ok is false if it has no such
// line.
func field(file, name string) (value string, ok bool, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value), true, nil
		}
	}
	return "", false, nil
}
