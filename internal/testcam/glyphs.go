package testcam

import (
	"image"
	"image/color"
	"math"
	"strings"
)

// strokes draws each letter as lines on a grid 4 wide and 6 high, written as
// pairs of digits x y, lines apart by a blank. It holds what the picture says
// and no more; other characters are blanks.
var strokes = map[rune]string{
	'0': "10 01 05 16 36 45 41 30 10", '1': "11 20 26", '2': "01 10 30 41 42 06 46",
	'3': "00 40 22 32 43 45 36 16 05", '4': "30 04 44|32 36", '5': "40 00 03 12 32 43 45 36 16 05",
	'6': "40 20 02 05 16 36 45 44 33 03", '7': "00 40 16", '8': "10 01 02 13 33 44 45 36 16 05 04 13|33 42 41 30 10",
	'9': "06 26 44 41 30 10 01 02 13 43",
	'A': "06 03 20 43 46|04 44", 'B': "00 30 41 42 33 44 45 36 06 00|03 33", 'C': "41 30 10 01 05 16 36 45",
	'D': "00 20 42 44 26 06 00", 'E': "40 00 06 46|03 33", 'F': "40 00 06|03 33", 'G': "41 30 10 01 05 16 36 45 43 23",
	'H': "00 06|40 46|03 43", 'I': "20 26", 'K': "00 06|40 03 46", 'L': "00 06 46", 'M': "06 00 23 40 46",
	'N': "06 00 46 40", 'O': "10 01 05 16 36 45 41 30 10", 'P': "06 00 30 41 42 33 03", 'R': "06 00 30 41 42 33 03|23 46",
	'S': "41 30 10 01 02 13 33 44 45 36 16 05", 'T': "00 40|20 26", 'U': "00 05 16 36 45 40", 'V': "00 26 40",
	'W': "00 16 22 36 40", 'Y': "00 23 40|23 26", 'X': "00 46|40 06", 'Z': "00 40 06 46",
	':': "22 22|25 25", '.': "26 26", '-': "13 33",
}

// A glyph is the coverage of one letter in one size, 0 to 255.
type glyph struct {
	*image.Alpha
	advance int // pixels to the next letter
}

// An alphabet draws text in one size. It is filled at the start and only read
// afterwards.
type alphabet struct {
	glyphs  map[rune]glyph
	advance int
}

// newAlphabet draws every letter once, height pixels high.
func newAlphabet(height float64) *alphabet {
	unit := height / 7.2 // 6 units between the middles of the strokes, and their thickness
	pen := unit * 0.6
	a := &alphabet{glyphs: make(map[rune]glyph), advance: int(math.Round(unit * 6.2))}
	for letter, lines := range strokes {
		advance := a.advance
		if letter == ':' || letter == '.' {
			advance = int(math.Round(unit * 3.6))
		}
		shift := (float64(advance) - 4*unit) / 2
		a.glyphs[letter] = glyph{ink(parse(lines), unit, pen, shift, advance, int(height+1)), advance}
	}
	return a
}

type segment struct{ x0, y0, x1, y1 float64 }

func parse(lines string) []segment {
	var all []segment
	for line := range strings.SplitSeq(lines, "|") {
		points := strings.Fields(line)
		for i := range len(points) - 1 {
			p, q := points[i], points[i+1]
			all = append(all, segment{float64(p[0] - '0'), float64(p[1] - '0'), float64(q[0] - '0'), float64(q[1] - '0')})
		}
	}
	return all
}

// ink covers every pixel nearer to a stroke than the pen is thick, with soft
// edges of one pixel.
func ink(lines []segment, unit, pen, shift float64, w, h int) *image.Alpha {
	img := image.NewAlpha(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			px, py := (float64(x)+0.5-shift)/unit, (float64(y)+0.5-pen)/unit
			near := math.Inf(1)
			for _, s := range lines {
				near = min(near, s.distance(px, py))
			}
			img.Pix[y*img.Stride+x] = uint8(255 * soft(pen-near*unit))
		}
	}
	return img
}

func (s segment) distance(x, y float64) float64 {
	dx, dy := s.x1-s.x0, s.y1-s.y0
	along := 0.0
	if long := dx*dx + dy*dy; long > 0 {
		along = min(1, max(0, ((x-s.x0)*dx+(y-s.y0)*dy)/long))
	}
	return math.Hypot(x-s.x0-along*dx, y-s.y0-along*dy)
}

// soft turns a distance inside an edge, in pixels, into coverage.
func soft(inside float64) float64 { return min(1, max(0, inside+0.5)) }

// width returns how many pixels a text takes.
func (a *alphabet) width(text string) int {
	w := 0
	for _, letter := range text {
		if g, ok := a.glyphs[letter]; ok {
			w += g.advance
		} else {
			w += a.advance
		}
	}
	return w
}

// write draws text with its upper left corner at x, y.
func (a *alphabet) write(img *image.RGBA, x, y int, text string, c color.RGBA) {
	for _, letter := range text {
		g, ok := a.glyphs[letter]
		if !ok {
			x += a.advance
			continue
		}
		for gy := range g.Rect.Dy() {
			for gx := range g.Rect.Dx() {
				if cover := g.Pix[gy*g.Stride+gx]; cover > 0 {
					blend(img, x+gx, y+gy, c, float64(cover)/255)
				}
			}
		}
		x += g.advance
	}
}

// blend mixes a colour over one pixel; outside of the picture it does nothing.
func blend(img *image.RGBA, x, y int, c color.RGBA, cover float64) {
	if cover <= 0 || !(image.Point{x, y}).In(img.Rect) {
		return
	}
	p := img.Pix[img.PixOffset(x, y):][:4:4]
	p[0] += uint8(int(cover * (float64(c.R) - float64(p[0]))))
	p[1] += uint8(int(cover * (float64(c.G) - float64(p[1]))))
	p[2] += uint8(int(cover * (float64(c.B) - float64(p[2]))))
}

// fill paints a rectangle, clipped to the picture.
func fill(img *image.RGBA, r image.Rectangle, c color.RGBA) {
	r = r.Intersect(img.Rect)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := img.Pix[img.PixOffset(r.Min.X, y):img.PixOffset(r.Max.X, y)]
		for i := 0; i < len(row); i += 4 {
			row[i], row[i+1], row[i+2], row[i+3] = c.R, c.G, c.B, c.A
		}
	}
}
