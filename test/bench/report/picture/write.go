// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"os"
	"path/filepath"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Picture is one picture of the report.
type Picture struct {
	Name string // name of its file, without .svg
	Alt  string // description of its content
	With string // the part of the text to which it belongs, see text.Picture

	height vg.Length
	draw   func(c draw.Canvas)
}

// Write writes the picture into dir.
func (p Picture) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := p.SVG()
	if err != nil {
		return fmt.Errorf("picture %s: %w", p.Name, err)
	}
	return os.WriteFile(filepath.Join(dir, p.Name+".svg"), b, 0o644)
}

// Remove removes a picture that the report does not have any more.
func Remove(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name+".svg")); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// on draws on white, so that black letters are visible on dark pages.
func (p Picture) on(c draw.Canvas) {
	c.SetColor(white)
	c.Fill(c.Rectangle.Path())
	p.draw(c)
}
