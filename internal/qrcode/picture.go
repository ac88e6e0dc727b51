package qrcode

import (
	"image"
	"image/color"
)

// Picture draws the code dark on light with its quiet zone, each module a square of
// so many dots.
func (c *Code) Picture(dots int) image.Image {
	dots = max(dots, 1)
	side := (c.Size + 2*Quiet) * dots
	p := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			if c.Dark(x/dots-Quiet, y/dots-Quiet) {
				p.SetColorIndex(x, y, 1)
			}
		}
	}
	return p
}
