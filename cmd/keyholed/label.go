package main

import (
	"bytes"
	"fmt"
	"image/png"
	"strings"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/internal/qrcode"
)

// labelModule is the size of a module in a picture for a printer, in dots: a code of
// 29 modules is 11 mm wide at 600 dots an inch.
const labelModule = 9

// label makes the code for the device's sticker and prints it, this once.
func label(c *call) error {
	var order control.LabelOrder
	c.flags.BoolVar(&c.json, "json", false, "")
	c.flags.BoolVar(&order.Replace, "replace", false, "")
	file := c.flags.String("png", "", "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	var made control.Label
	if err := c.daemon().Post(ctx, control.LabelRoute, order, &made); err != nil {
		return err
	}
	code, err := qrcode.Encode(strings.ToUpper(made.Link))
	if err != nil {
		return err
	}
	if *file != "" {
		var b bytes.Buffer
		if err := png.Encode(&b, code.Picture(labelModule)); err != nil {
			return err
		}
		if err := durable.WriteFile(*file, b.Bytes(), 0o600); err != nil {
			return fmt.Errorf("the label is made, its picture is not: %w (its code: %s)", err, made.Code)
		}
	}
	if c.json {
		return c.printJSON(made)
	}
	fmt.Fprintln(c.stderr, "for the sticker; nobody can be told this code again:")
	_, err = fmt.Fprintf(c.stdout, "%s\nid   %s\ncode %s\n%s\n", code.Blocks(), made.ID, made.Code, made.Link)
	return err
}
