// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Picture is one of the report's.
type Picture struct {
	Name string // of its files, without extension
	Alt  string // what it shows
	With string // the part of the text that it belongs to, see text.Picture

	height vg.Length
	draw   func(c draw.Canvas)
}

// dotsPerInch of the PNG: sharp on screens with two dots for each pixel.
const dotsPerInch = 192

// Write writes both files into dir.
func (p Picture) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for extension, encode := range map[string]func() ([]byte, error){".svg": p.SVG, ".png": p.PNG} {
		b, err := encode()
		if err != nil {
			return fmt.Errorf("picture %s%s: %w", p.Name, extension, err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.Name+extension), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes away what an earlier report has left, whose numbers are not in this one.
func Remove(dir, name string) error {
	for _, extension := range []string{".svg", ".png"} {
		if err := os.Remove(filepath.Join(dir, name+extension)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// PNG is for what does not show SVG.
func (p Picture) PNG() ([]byte, error) {
	c := vgimg.NewWith(vgimg.UseWH(pageWidth, p.height), vgimg.UseDPI(dotsPerInch))
	p.on(draw.New(c))
	var b bytes.Buffer
	_, err := vgimg.PngCanvas{Canvas: c}.WriteTo(&b)
	return b.Bytes(), err
}

// on draws on white, so that dark pages do not swallow black letters.
func (p Picture) on(c draw.Canvas) {
	c.SetColor(white)
	c.Fill(c.Rectangle.Path())
	p.draw(c)
}
