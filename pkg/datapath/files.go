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

// isThere looks for a name, whatever it leads to.
func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removeIfThere removes a pin, a mark or an empty directory. One that is not there is not an error.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// field is what a file of /proc says behind a name, without spaces; ok is false where it has no such line.
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
