// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sums writes SHA256SUMS, for sha256sum -c in the directory of the release.
func (r *release) sums() error {
	files, err := below(r.out, "")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, f := range files {
		sum, err := digest(f.from)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s  %s\n", sum, f.name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), out.Bytes(), 0o644)
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
