// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

const page = `# Changelog

Text before.

## [Unreleased]

### Added

- One, [with a link](docs/A.md), and words until the line is so long that it has to
  be broken.

## [1.1.0] - 2026-02-03

Sentence.

### Changed

| before | now |
|---|---|
| old | new |

## [1.0.0] - 2026-01-31

- First.

[Unreleased]: https://example.org/
`

const older = `sockmap-cni (1.1.0) unstable; urgency=medium

  * Sentence.

  [ Changed ]
  * old: new

 -- M <m@example.org>  Tue, 03 Feb 2026 00:00:00 +0000

sockmap-cni (1.0.0) unstable; urgency=medium

  * First.

 -- M <m@example.org>  Sat, 31 Jan 2026 00:00:00 +0000
`

func TestChangelog(t *testing.T) {
	const day = "Tue, 03 Feb 2026 00:00:00 +0000"
	for version, want := range map[string]string{
		"1.1.0": older,
		"1.1.0+3.gabc": `sockmap-cni (1.1.0+3.gabc) unstable; urgency=medium

  [ Added ]
  * One, with a link, and words until the line is so long that it has to be
    broken.

 -- M <m@example.org>  ` + day + "\n\n" + older,
	} {
		var out strings.Builder
		if err := write(&out, strings.NewReader(page), version, "M <m@example.org>", day); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s:\n%s, want\n%s", version, out.String(), want)
		}
	}
	if err := write(&strings.Builder{}, strings.NewReader("# Changelog\n"), "1", "M", day); err == nil {
		t.Error("a page without versions is taken")
	}
}
