// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestPictureHasTextPositionAndStyle(t *testing.T) {
	svg := picture("a \x1b[1mb<\x1b[0m\n\x1b[32m█\x1b[39m", 10, 2)
	for _, want := range []string{
		`x="18.0" y="32" textLength="16.8" lengthAdjust="spacingAndGlyphs">a </text>`,
		`x="34.8" y="32" textLength="16.8" lengthAdjust="spacingAndGlyphs" font-weight="bold">b&lt;</text>`,
		`x="18.0" y="51" textLength="8.4" lengthAdjust="spacingAndGlyphs" fill="#7ee787">█</text>`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}
