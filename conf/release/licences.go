// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	cdx "github.com/CycloneDX/cyclonedx-go"
	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
)

// licenceBook finds the licences of modules in the texts that they come with.
type licenceBook struct {
	classifier *classifier.Classifier
	dirs       map[string]string // module -> its source
	known      map[string][]string
}

func newLicenceBook(root string) (*licenceBook, error) {
	c, err := assets.DefaultClassifier()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-m", "-json=Path,Dir", "all")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	book := &licenceBook{c, map[string]string{}, map[string][]string{}}
	for dec := json.NewDecoder(out); ; {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		book.dirs[m.Path] = m.Dir
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("go list -m all: %w", err)
	}
	return book, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(LICEN[CS]E|COPYING|UNLICENSE)([.-].*)?$`)

// sure is the share of a text that has to match a licence.
const sure = 0.9

// of returns nil if the licence is not known. The bill of materials then leaves it out.
func (b *licenceBook) of(module string) *cdx.Licenses {
	names, ok := b.known[module]
	if !ok {
		names = b.read(b.dirs[module])
		b.known[module] = names
	}
	if len(names) == 0 {
		return nil
	}
	var all cdx.Licenses
	for _, name := range names {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: name}})
	}
	return &all
}

func (b *licenceBook) read(dir string) (names []string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil // not downloaded: nothing is known
	}
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			continue
		}
		for _, m := range b.classifier.Match(text).Matches {
			if m.MatchType == "License" && m.Confidence >= sure {
				names = append(names, m.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
