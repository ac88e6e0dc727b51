package hal

import (
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"
	"strings"
)

// Size of every picture, in pixels: the common small OLED. A larger display
// shows it enlarged.
const (
	Width  = 128
	Height = 64
)

// MaxPNGScale bounds the enlargement of PNG, and so what a request can cost: 16
// makes a picture of 2048x1024.
const MaxPNGScale = 16

// Colours of a lit and a dark pixel, as a white OLED looks.
var (
	dark = color.Gray{Y: 0}
	lit  = color.Gray{Y: 255}
)

// A Picture is 128x64 pixels of one bit, and the same in words for whoever
// cannot see it: a terminal, a screen reader, a test. The zero value is dark
// and says nothing. It is an image.Image.
type Picture struct {
	// Bits are the rows from the top, 16 bytes each, the leftmost pixel in the
	// highest bit; 1 is lit.
	Bits [Width * Height / 8]byte

	// Words are the lines of text in the picture, from the top.
	Words []string
}

func (p *Picture) at(x, y int) (i int, mask byte, ok bool) {
	if x < 0 || y < 0 || x >= Width || y >= Height {
		return 0, 0, false
	}
	return (y*Width + x) / 8, 0x80 >> (x % 8), true
}

// Set lights or darkens one pixel; outside the picture it does nothing.
func (p *Picture) Set(x, y int, on bool) {
	i, mask, ok := p.at(x, y)
	switch {
	case !ok:
	case on:
		p.Bits[i] |= mask
	default:
		p.Bits[i] &^= mask
	}
}

// Lit reports whether a pixel is lit; those outside are not.
func (p *Picture) Lit(x, y int) bool {
	i, mask, ok := p.at(x, y)
	return ok && p.Bits[i]&mask != 0
}

// ColorModel is part of image.Image.
func (p *Picture) ColorModel() color.Model { return color.GrayModel }

// Bounds is part of image.Image: 128x64 from the origin.
func (p *Picture) Bounds() image.Rectangle { return image.Rect(0, 0, Width, Height) }

// At is part of image.Image.
func (p *Picture) At(x, y int) color.Color {
	if p.Lit(x, y) {
		return lit
	}
	return dark
}

// Clone returns a copy that shares nothing.
func (p *Picture) Clone() *Picture {
	return &Picture{Bits: p.Bits, Words: slices.Clone(p.Words)}
}

// Equal reports whether q looks and reads the same.
func (p *Picture) Equal(q *Picture) bool {
	return p.Bits == q.Bits && slices.Equal(p.Words, q.Words)
}

// PNG writes the picture with each pixel enlarged to a square of scale pixels,
// brought into 1 to MaxPNGScale. The same picture gives the same bytes.
func (p *Picture) PNG(w io.Writer, scale int) error {
	scale = min(max(scale, 1), MaxPNGScale)
	large := image.NewPaletted(image.Rect(0, 0, Width*scale, Height*scale), color.Palette{dark, lit})
	for y := range Height * scale {
		for x := range Width * scale {
			if p.Lit(x/scale, y/scale) {
				large.Pix[y*large.Stride+x] = 1
			}
		}
	}
	return png.Encode(w, large)
}

// halfBlocks are two pixels above each other in one character.
var halfBlocks = [4]rune{' ', '▀', '▄', '█'}

// Blocks draws the picture for a terminal with light text on dark ground: 32
// lines of 128 half-block characters, trailing space cut.
func (p *Picture) Blocks() string {
	var out strings.Builder
	for y := 0; y < Height; y += 2 {
		var row [Width]rune
		for x := range Width {
			i := 0
			if p.Lit(x, y) {
				i |= 1
			}
			if p.Lit(x, y+1) {
				i |= 2
			}
			row[x] = halfBlocks[i]
		}
		out.WriteString(strings.TrimRight(string(row[:]), " "))
		out.WriteByte('\n')
	}
	return out.String()
}
