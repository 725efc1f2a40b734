// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"path/filepath"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
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

// SVG refers to fonts by name, as they would be ten times the rest of it.
func (p Picture) SVG() ([]byte, error) {
	c := vgsvg.New(pageWidth, p.height)
	p.on(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// Letters of these fonts are equally wide, and one of them is everywhere.
	out := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
	title := fmt.Sprintf("xmlns:xlink=\"http://www.w3.org/1999/xlink\" role=\"img\">\n<title>%s</title>\n", html.EscapeString(p.Alt))
	return bytes.Replace(out, []byte("xmlns:xlink=\"http://www.w3.org/1999/xlink\">\n"), []byte(title), 1), nil
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
