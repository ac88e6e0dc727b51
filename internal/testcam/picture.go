package testcam

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"
	"time"
)

// The picture: colour bars, a ball with a keyhole that flies over them, and
// below a clock, the picture's number and the camera's name, so that a person
// sees at once that it is live, how late it is, and whose it is.

const (
	minWidth, minHeight = 320, 184 // below it the clock has no room
	maxWidth, maxHeight = 2040, 2040
	// RFC 2435 counts in 8 pixels and has one byte for each side.
)

var (
	night  = color.RGBA{18, 22, 30, 255}
	slate  = color.RGBA{30, 37, 50, 255}
	white  = color.RGBA{244, 246, 250, 255}
	grey   = color.RGBA{138, 150, 170, 255}
	amber  = color.RGBA{255, 190, 60, 255}
	shadow = color.RGBA{0, 0, 0, 255}
)

// bars are the seven of a television test card at 75 %, a little softened.
var bars = []color.RGBA{
	{208, 210, 214, 255}, {206, 196, 52, 255}, {56, 190, 196, 255}, {62, 178, 80, 255},
	{186, 66, 178, 255}, {200, 58, 58, 255}, {58, 80, 196, 255},
}

// painter draws pictures of one size. Owned by the goroutine that films.
type painter struct {
	name   Name
	back   *image.RGBA // what never changes
	canvas *image.RGBA // the picture being drawn
	sky    int         // height of the bars
	large  *alphabet
	small  *alphabet
}

func newPainter(name Name, width, height int) *painter {
	p := &painter{
		name:   name,
		back:   image.NewRGBA(image.Rect(0, 0, width, height)),
		canvas: image.NewRGBA(image.Rect(0, 0, width, height)),
		sky:    height * 58 / 100,
		large:  newAlphabet(float64(min(height/6, width*10/133))),
		small:  newAlphabet(float64(min(height/22, width/36))),
	}
	p.paintBack()
	return p
}

func (p *painter) paintBack() {
	w, h := p.back.Rect.Dx(), p.back.Rect.Dy()
	fill(p.back, p.back.Rect, night)
	for i, c := range bars {
		fill(p.back, image.Rect(w*i/len(bars), 0, w*(i+1)/len(bars), p.sky), c)
	}
	// A grey scale: it shows whether dark and light are kept apart.
	step := max(4, h/36)
	for x := range w {
		level := uint8(255 * x / w)
		fill(p.back, image.Rect(x, p.sky, x+1, p.sky+step), color.RGBA{level, level, level, 255})
	}
	fill(p.back, image.Rect(0, p.sky+step, w, p.sky+step+1), slate)
	margin, base := w/32, p.labelTop()
	p.small.write(p.back, margin, base, "KEYHOLE TEST CAMERA", grey)
	name := strings.ToUpper(p.name.String())
	p.small.write(p.back, w-margin-p.small.width(name), base, name, grey)
}

// labelTop is where the lowest line of text stands, above the mark.
func (p *painter) labelTop() int {
	h := p.back.Rect.Dy()
	return h - markRows(p.back.Rect.Dx())*markCell - h/22*9/5
}

// paint draws picture number n as it is at this moment. The result is valid
// until the next call.
func (p *painter) paint(n uint32, now time.Time) *image.RGBA {
	copy(p.canvas.Pix, p.back.Pix)
	w, h := p.canvas.Rect.Dx(), p.canvas.Rect.Dy()

	margin, top := w/32, p.sky+h/36
	top += (p.labelTop() - top - h/6) / 2
	p.large.write(p.canvas, margin, top, now.Format("15:04:05.0"), white)
	number := fmt.Sprintf("%05d", n)
	p.large.write(p.canvas, w-margin-p.large.width(number), top, number, amber)

	p.ball(float64(n))
	Mark{p.name, n}.draw(p.canvas)
	return p.canvas
}

// ball flies on two triangle waves whose periods share no factor, so that the
// way repeats only after minutes.
func (p *painter) ball(t float64) {
	r := float64(p.sky) / 5.5
	w, h := float64(p.canvas.Rect.Dx()), float64(p.sky)
	x := r + (w-2*r)*triangle(t/97)
	y := r + (h-2*r)*triangle(t/41)

	p.disc(x+r/10, y+r/8, r, shadow, 0.28)
	p.disc(x, y, r, white, 1)
	p.disc(x, y, r*0.9, slate, 1)
	// The keyhole: a round and a skirt.
	p.disc(x, y-r*0.2, r*0.3, amber, 1)
	for dy := -r * 0.1; dy < r*0.55; dy++ {
		half := r * (0.13 + 0.17*(dy+r*0.1)/(r*0.65))
		for px := math.Floor(x - half - 1); px <= x+half+1; px++ {
			blend(p.canvas, int(px), int(y+dy), amber, soft(half-math.Abs(px+0.5-x)))
		}
	}
}

func (p *painter) disc(x, y, r float64, c color.RGBA, strength float64) {
	for py := int(y - r - 1); py <= int(y+r+1); py++ {
		for px := int(x - r - 1); px <= int(x+r+1); px++ {
			edge := r - math.Hypot(float64(px)+0.5-x, float64(py)+0.5-y)
			blend(p.canvas, px, py, c, strength*soft(edge))
		}
	}
}

// triangle goes 0, 1, 0 while t goes 0, 1, 2.
func triangle(t float64) float64 { return 1 - math.Abs(math.Mod(t, 2)-1) }
