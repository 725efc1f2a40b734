// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Part is one file of a bundle.
type Part struct {
	Name    string // of the file; what ends in .json is JSON
	What    string // for the manifest: the command that makes the same, or what was read
	Content []byte
	Exit    int   // the exit code of the command
	Err     error // the part is missing, or not complete
}

// Manifest is manifest.json.
type Manifest struct {
	Version string         `json:"version"`
	Made    time.Time      `json:"made"`
	LeftOut []string       `json:"leftOut"`
	Parts   []ManifestPart `json:"parts"`
}

// ManifestPart is one file in the manifest.
type ManifestPart struct {
	File     string `json:"file"`
	What     string `json:"what"`
	ExitCode int    `json:"exitCode"`
	Failed   bool   `json:"failed"`
}

// ErrorsFile has a line for each part that failed.
const ErrorsFile = "errors.txt"

// Write writes a gzipped tar of all parts below one directory. Only the owner may read the files. The parts
// are scrubbed. The caller does not set Parts and LeftOut of m.
func Write(w io.Writer, dir string, m Manifest, parts []Part, s *Scrubber) error {
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	files := scrub(parts, s)
	var failures strings.Builder
	for _, p := range files {
		m.Parts = append(m.Parts, ManifestPart{p.Name, p.What, p.Exit, p.Err != nil})
		if p.Err != nil {
			fmt.Fprintf(&failures, "%s: %s\n", p.Name, s.Text(p.Err.Error()))
		}
	}
	m.LeftOut = s.leftOut()
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	files = append([]Part{
		{Name: "manifest.json", Content: append(manifest, '\n')},
		{Name: ErrorsFile, Content: []byte(failures.String())},
	}, files...)
	for _, p := range files {
		if p.Content == nil {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + p.Name, Mode: 0o600,
			Size: int64(len(p.Content)), ModTime: m.Made}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := out.Write(p.Content); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), zip.Close())
}

// scrub learns the names of all parts before it replaces any. A part that should be JSON and is not is left
// out, because its names cannot be found.
func scrub(parts []Part, s *Scrubber) []Part {
	for _, p := range parts {
		if isJSON(p) {
			s.LearnJSON(p.Content)
		} else {
			s.Text(string(p.Content))
		}
	}
	done := make([]Part, 0, len(parts))
	for _, p := range parts {
		switch {
		case p.Content == nil:
		case isJSON(p):
			content, err := s.JSON(p.Content)
			if err != nil {
				p.Err = errors.Join(p.Err, fmt.Errorf("it is no JSON: %w", err))
			}
			p.Content = content
		default:
			p.Content = []byte(s.Text(string(p.Content)))
		}
		done = append(done, p)
	}
	return done
}

func isJSON(p Part) bool { return strings.HasSuffix(p.Name, ".json") }

func (s *Scrubber) leftOut() []string {
	left := []string{"every byte of connections"}
	if !s.KeepAddresses {
		left = append(left, "IP addresses: --with-addresses")
	}
	if !s.KeepNames {
		left = append(left, "names of pods, of namespaces and of the node: --with-names")
	}
	return left
}
