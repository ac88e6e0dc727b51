package daemon

import (
	"image"
	"strings"
	"time"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/qrcode"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// codeModule is the size of a module of the QR code on the display, in pixels: its
	// 25 modules with a quiet zone are then 58 of the 64 lines there are. On a display
	// of 22 mm a module is a third of a millimetre, which phones read.
	codeModule = 2
	// codeQuiet is narrower than the standard's four modules: the display's own edge
	// is dark, and beyond that phones do with two.
	codeQuiet = 2
	// codeText is where the text beside it begins.
	codeText = 64
)

// codePage shows the code of a window, as digits and as a keyhole: link with the
// device's id for a phone to read: who scans it need not compare anything.
func codePage(id string, code pairing.Passcode, left time.Duration) *hal.Picture {
	p := &hal.Picture{}
	digits, rest, _ := strings.Cut(code.Grouped(), " ")
	drawn := drawLink(p, pairing.Link{Kind: pairing.LinkCode, Device: identity.ID(id), Code: code})
	if !drawn { // an id that is none: the digits alone
		p = hal.Page(hal.Line{Text: "Pair code  " + clock(left)}, hal.Line{Text: code.Grouped(), Scale: 2}, hal.Line{})
		p.Bar(image.Rect(4, 52, hal.Width-4, 62), int(left.Milliseconds()), int(pairing.WindowDuration.Milliseconds()))
		return p
	}
	p.Text(codeText, 0, 1, "Code "+clock(left))
	p.Text(codeText, 13, 2, digits)
	p.Text(codeText, 38, 2, rest)
	p.Words = []string{"Pair code  " + clock(left), code.Grouped()} // as people say it
	return p
}

// drawLink draws a link dark on light at the left edge, if it fits there.
func drawLink(p *hal.Picture, l pairing.Link) bool {
	text, err := l.Text()
	if err != nil {
		return false
	}
	c, err := qrcode.Encode(strings.ToUpper(text))
	side := 0
	if err == nil {
		side = (c.Size + 2*codeQuiet) * codeModule
	}
	if err != nil || side > codeText || side > hal.Height {
		return false
	}
	top := (hal.Height - side) / 2
	p.Fill(image.Rect(0, top, side, top+side), true)
	for y := range c.Size {
		for x := range c.Size {
			if c.Dark(x, y) {
				at := image.Pt((x+codeQuiet)*codeModule, top+(y+codeQuiet)*codeModule)
				p.Fill(image.Rectangle{Min: at, Max: at.Add(image.Pt(codeModule, codeModule))}, false)
			}
		}
	}
	return true
}
