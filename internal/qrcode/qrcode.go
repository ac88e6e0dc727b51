// Package qrcode draws QR codes (ISO/IEC 18004) for a terminal and for small
// displays. It is the only door to rsc.io/qr, and knows neither what is in a code
// nor where it is shown.
package qrcode

import (
	"strings"

	"rsc.io/qr"
)

// Quiet is how many light modules belong around a code for it to be found (ISO/IEC
// 18004 §6.3.8). Readers of phones do with two, for which see Blocks' callers.
const Quiet = 4

// MaxText bounds what is encoded: a terminal shows no larger code whole.
const MaxText = 1024

// A Code is a square of dark and light modules, without its quiet zone.
type Code struct {
	Size int
	dark func(x, y int) bool
}

// Encode makes the smallest code that holds text, with as much correction as fits
// into that size for free. Capitals, digits and "$%*+-./: " make smaller codes than
// other text.
func Encode(text string) (*Code, error) {
	if len(text) > MaxText {
		return nil, errTooLong
	}
	best, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, err
	}
	for _, level := range []qr.Level{qr.M, qr.Q, qr.H} {
		better, err := qr.Encode(text, level)
		if err != nil || better.Size > best.Size {
			break
		}
		best = better
	}
	return &Code{Size: best.Size, dark: best.Black}, nil
}

var errTooLong = errText("too long for a QR code that a terminal could show")

type errText string

func (e errText) Error() string { return string(e) }

// Dark tells the colour of a module; outside of the code all is light.
func (c *Code) Dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.dark(x, y)
}

// Blocks draws the code with its quiet zone as lines of half blocks, two rows of
// modules each. Light modules are the blocks: on a terminal with a dark ground it is
// right as it is; Coloured makes it right on every one.
func (c *Code) Blocks() string {
	var b strings.Builder
	for y := -Quiet; y < c.Size+Quiet; y += 2 {
		for x := -Quiet; x < c.Size+Quiet; x++ {
			upper, lower := !c.Dark(x, y), !c.Dark(x, y+1) && y+1 < c.Size+Quiet
			switch {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Coloured is Blocks in white on black, whatever the terminal's own colours are.
func (c *Code) Coloured() string {
	const whiteOnBlack, plain = "\x1b[97;40m", "\x1b[0m"
	var b strings.Builder
	for line := range strings.Lines(c.Blocks()) {
		b.WriteString(whiteOnBlack + strings.TrimSuffix(line, "\n") + plain + "\n")
	}
	return b.String()
}
