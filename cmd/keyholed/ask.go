package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png" // the daemon sends the display as PNG
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
)

// The commands in this file ask the running daemon. ctx has no deadline: the
// control client has its own.
var ctx = context.Background()

func (c *call) printJSON(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns, with their head. An empty one prints nothing.
func (c *call) table(head []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func status(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	s, err := c.daemon().Status(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("name", "%s (%s)", s.Name, s.Product)
	row("id", "%s", s.ID)
	row("listening", "%s, TCP and UDP", strings.Join(s.Listen, ", "))
	row("pairing", "%s", pairingWords(s.Pairing))
	row("support", "%s", supportWords(s.Support))
	row("basestation", "%s", basestationWords(s.Basestation))
	row("users", "%d", s.Users)
	row("sessions", "%d", s.Sessions)
	row("tunnels", "%d", s.Tunnels)
	if n := len(s.Watching); n > 0 {
		row("watching", "%d: %s", n, strings.Join(s.Watching, ", "))
	}
	row("clock", "%s", s.Clock.State)
	for _, a := range s.Authorities {
		row("authority "+a.Name, "%s", authorityWords(a))
	}
	for _, r := range s.Refused {
		row("not let in", "%s", refusedWords(r))
	}
	if s.Central != nil {
		row("vendor", "%s", centralWords(s.Central))
	}
	if s.Board != nil {
		row("board", "%s, light %s%s", s.Board.Profile, s.Board.Light, watchingWords(s.Board.Watching))
		if s.Board.Web != "" {
			row("front panel", "%s", s.Board.Web)
		}
	}
	row("up", "%v", time.Duration(s.Uptime)*time.Second)
	row("version", "%s", s.Version)
	for _, warning := range s.Warnings {
		row("warning", "%s", warning)
	}
	return w.Flush()
}

// watchingWords is the light for those who watch, where the board has one.
func watchingWords(on *bool) string {
	switch {
	case on == nil:
		return ""
	case *on:
		return ", watching light on"
	}
	return ", watching light off"
}

// basestationWords says how the device can be asked for from beyond its network.
func basestationWords(b control.Basestation) string {
	switch b.State {
	case control.BasestationOff:
		return "none: this device serves its own network only"
	case control.BasestationAttached:
		words := "attached to " + b.Address + " over " + b.Path
		if b.Observed != "" {
			words += ", which sees it at " + b.Observed
		}
		if b.Relayed > 0 {
			words += fmt.Sprintf(", relays %d connections", b.Relayed)
		}
		return words
	}
	words := b.State + " to " + b.Address
	if b.Error != "" {
		words += fmt.Sprintf(" for %v: %s", time.Duration(b.Since)*time.Second, b.Error)
	}
	return words
}

// centralWords says what the vendor's word on who enters comes to.
func centralWords(c *control.Central) string {
	if !c.On {
		return "refused by the owner"
	}
	var words []string
	switch {
	case c.Grants && len(c.Guests) > 0:
		words = append(words, "grants count, here by one: "+strings.Join(c.Guests, ", "))
	case c.Grants:
		words = append(words, "grants count")
	}
	if l := c.List; l != nil {
		list := fmt.Sprintf("list version %d, %d people", l.Version, l.People)
		if l.Error != "" {
			list += ", not had now: " + l.Error
		}
		words = append(words, list)
	}
	return strings.Join(words, "; ")
}

func pairingWords(p control.Pairing) string {
	switch {
	case !p.Open:
		return "closed"
	case p.Asking != nil:
		return fmt.Sprintf("%q asks, its digits must be %s %s: press, or `keyholed pair accept`", p.Asking.Name, p.Asking.Check[:3], p.Asking.Check[3:])
	}
	return fmt.Sprintf("open for %d s (%s)", p.SecondsLeft, strings.Join(p.Modes, ", "))
}

func pair(c *call) error {
	if err := c.parse(1, 2); err != nil {
		return err
	}
	order := control.PairingOrder{Do: c.args[0]}
	switch {
	case order.Do != "open" && order.Do != "accept" && order.Do != "close":
		return usagef("pair wants open, accept or close")
	case len(c.args) == 2 && order.Do != "accept":
		return usagef("only accept takes a fingerprint")
	case len(c.args) == 2:
		f, err := identity.ParseFingerprint(c.args[1])
		if err != nil {
			return usagef("%v", err)
		}
		order.Fingerprint = f
	}
	var now control.Pairing
	if err := c.daemon().Post(ctx, control.PairingRoute, order, &now); err != nil {
		return err
	}
	said := "pairing is " + pairingWords(now)
	if order.Do == "accept" {
		said = "accepted"
	}
	_, err := fmt.Fprintln(c.stdout, said)
	return err
}

func press(c *call) error {
	hold := c.flags.Duration("hold", 0, "")
	if err := c.parse(1, 1); err != nil {
		return err
	}
	var did control.Pressed
	order := control.Press{Button: c.args[0], HoldMillis: hold.Milliseconds()}
	if err := c.daemon().Post(ctx, control.PressRoute, order, &did); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, did.Did)
	return err
}

func display(c *call) error {
	file := c.flags.String("png", "", "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	data, err := c.daemon().GetBytes(ctx, control.DisplayRoute)
	if err != nil {
		return err
	}
	if *file != "" {
		return durable.WriteFile(*file, data, 0o644)
	}
	picture, _, err := image.Decode(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	return drawBlocks(c, picture)
}

// drawBlocks shows a picture of squares in a terminal, two rows of squares a
// line.
func drawBlocks(c *call, p image.Image) error {
	const columns = 128
	step := p.Bounds().Dx() / columns
	if step == 0 {
		return fmt.Errorf("the display is too small")
	}
	lit := func(x, y int) bool {
		r, _, _, _ := p.At(x*step, y*step).RGBA()
		return r > 0x7fff
	}
	var out strings.Builder
	for y := 0; y < p.Bounds().Dy()/step; y += 2 {
		var line strings.Builder
		for x := range columns {
			line.WriteString(map[[2]bool]string{{false, false}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}[[2]bool{lit(x, y), lit(x, y+1)}])
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := fmt.Fprint(c.stdout, out.String())
	return err
}
