package hal

import (
	"image"
	"strings"

	"golang.org/x/image/font/basicfont"
)

// The one font: 7x13 pixels a character, ASCII. At scale 1 a line has 18
// characters, at 2 nine, at 3 six.
const (
	charWidth  = 7
	charHeight = 13
	MaxScale   = 3
)

// LineWidth returns how many characters fit in a line at the given scale.
func LineWidth(scale int) int { return Width / (charWidth * inScale(scale)) }

func inScale(scale int) int { return min(max(scale, 1), MaxScale) }

// Text writes s with its upper left corner at x, y. A character the font lacks
// becomes a box, so that a name in another script cannot pass for one in this.
// What does not fit is cut by the edge.
func (p *Picture) Text(x, y, scale int, s string) {
	p.draw(x, y, scale, s)
	p.say(s)
}

func (p *Picture) say(s string) {
	if s = strings.TrimSpace(s); s != "" {
		p.Words = append(p.Words, s)
	}
}

func (p *Picture) draw(x, y, scale int, s string) {
	scale = inScale(scale)
	for _, char := range s {
		p.char(x, y, scale, char)
		if x += charWidth * scale; x >= Width {
			return
		}
	}
}

func (p *Picture) char(x, y, scale int, char rune) {
	mask, at, ok := glyph(char)
	if !ok {
		mask, at, _ = glyph('�')
	}
	for dy := range charHeight * scale {
		for dx := range charWidth * scale {
			if dx/scale >= 6 { // the seventh column is the gap between characters
				continue
			}
			if _, _, _, alpha := mask.At(at.X+dx/scale, at.Y+dy/scale).RGBA(); alpha > 0x7fff {
				p.Set(x+dx, y+dy, true)
			}
		}
	}
}

// glyph finds the drawing of a character: the image and its corner there.
func glyph(char rune) (mask image.Image, corner image.Point, ok bool) {
	face := basicfont.Face7x13
	for _, r := range face.Ranges {
		if char >= r.Low && char < r.High {
			n := int(char-r.Low) + r.Offset
			return face.Mask, image.Pt(0, n*(face.Ascent+face.Descent)), true
		}
	}
	return nil, image.Point{}, false
}

// Fit shortens s to what a line holds at the given scale; two dots tell that
// something is missing.
func Fit(s string, scale int) string {
	chars := []rune(s)
	width := LineWidth(scale)
	if len(chars) <= width {
		return s
	}
	return string(chars[:width-2]) + ".."
}

// Centre writes s in the middle of the line whose upper edge is y, shortened to fit.
// The words keep all of s.
func (p *Picture) Centre(y, scale int, s string) {
	shown := Fit(s, scale)
	width := len([]rune(shown)) * charWidth * inScale(scale)
	p.draw((Width-width+inScale(scale))/2, y, scale, shown)
	p.say(s)
}

// A Line is one line of a page, its height a multiple of the font's.
type Line struct {
	Text  string
	Scale int // 1 to 3; 0 is 1
}

// Page draws lines centred below each other, with equal space between them.
// Lines that do not fit in the height are left out of the picture, from the
// last, but not out of the words.
func Page(lines ...Line) *Picture {
	p := &Picture{}
	used, fit := 0, 0
	for _, l := range lines {
		if used+charHeight*inScale(l.Scale) > Height {
			break
		}
		used += charHeight * inScale(l.Scale)
		fit++
	}
	space := (Height - used) / (fit + 1)
	y := space
	for i, l := range lines {
		if i >= fit {
			p.say(l.Text)
			continue
		}
		p.Centre(y, l.Scale, l.Text)
		y += charHeight*inScale(l.Scale) + space
	}
	return p
}

// Fill lights or darkens a rectangle.
func (p *Picture) Fill(r image.Rectangle, on bool) {
	r = r.Intersect(p.Bounds())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			p.Set(x, y, on)
		}
	}
}

// Invert swaps lit and dark in a rectangle: a banner.
func (p *Picture) Invert(r image.Rectangle) {
	r = r.Intersect(p.Bounds())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			p.Set(x, y, !p.Lit(x, y))
		}
	}
}

// Bar draws a frame with the share part of whole of it filled, from the left.
func (p *Picture) Bar(frame image.Rectangle, part, whole int) {
	p.Fill(frame, true)
	inner := frame.Inset(1)
	p.Fill(inner, false)
	if whole <= 0 || part <= 0 {
		return
	}
	inner = inner.Inset(1)
	inner.Max.X = inner.Min.X + inner.Dx()*min(part, whole)/whole
	p.Fill(inner, true)
}
