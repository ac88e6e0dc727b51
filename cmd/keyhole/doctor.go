package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
)

const (
	// doctorWait bounds one check of the network that the device may be in.
	doctorWait = 5 * time.Second
	// doctorFind is how long it listens for devices: two questions and their answers.
	doctorFind = 1500 * time.Millisecond
)

func (a *app) doctorCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "doctor [DEVICE]", Short: "What works, what does not, which path and why", Args: words(0, 1),
		Example: "  keyhole doctor",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.doctor(cmd.Context(), args) },
	})
}

// State of a check.
const (
	ok      = "ok"
	warn    = "warning" // it works, but look at it
	failed  = "failed"
	skipped = "not asked" // what it needs has failed
)

// A check is a node of the tree. Its children are asked only when it has not failed.
type check struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	Detail string   `json:"detail,omitempty"`
	Checks []*check `json:"checks,omitempty"`
}

func (c *check) add(name, state, format string, args ...any) *check {
	child := &check{Name: name, State: state, Detail: fmt.Sprintf(format, args...)}
	c.Checks = append(c.Checks, child)
	return child
}

// or adds the result of something that can only work or fail.
func (c *check) or(name string, err error, format string, args ...any) *check {
	if err == nil {
		return c.add(name, ok, format, args...)
	}
	_, what, _ := explain(err)
	return c.add(name, failed, "%s", what)
}

func (c *check) anyFailed() bool {
	if c.State == failed {
		return true
	}
	for _, child := range c.Checks {
		if child.anyFailed() {
			return true
		}
	}
	return false
}

func (a *app) doctor(ctx context.Context, args []string) error {
	top := &check{Name: "keyhole", State: ok}
	h, err := a.home()
	if err == nil {
		var devices []client.Device
		me := top.add("identity", ok, "%s in %s", h.Key().Fingerprint().Short(), h.Dir())
		devices, err = h.Devices()
		me.or("address book", err, "%s", count(len(devices), "device"))
		if err == nil {
			err = a.examineAll(ctx, h, top, devices, args)
		}
		if err != nil && len(args) > 0 {
			return err // it is about the word that was typed
		}
	} else {
		top.or("identity", err, "")
	}
	if a.json {
		err = a.document(top)
	} else {
		err = a.showTree(top)
	}
	if err == nil && top.anyFailed() {
		return errSilent(control.ExitFailed)
	}
	return err
}

// examineAll asks about one device or all, each in its own branch.
func (a *app) examineAll(ctx context.Context, h *client.Home, top *check, devices []client.Device, args []string) error {
	target := client.Target{}
	if len(args) == 1 {
		d, err := h.Lookup(args[0])
		var missing *client.NotFoundError
		switch {
		case err == nil:
			devices = []client.Device{d}
		case errors.As(err, &missing):
			if target, err = client.ParseTarget(args[0]); err != nil {
				return err
			}
			if target.Name != "" {
				return missing
			}
			d := client.Device{ID: target.ID}
			if target.Address != "" {
				d.Addresses = []string{target.Address}
			}
			devices = []client.Device{d}
		default:
			return err
		}
	}
	network := top.network()
	if network.State == failed {
		for _, d := range devices {
			top.add(d.String(), skipped, "no network")
		}
		return nil
	}
	defer a.waiting("asking the network")()
	heard, err := a.find(ctx, doctorFind)
	if err != nil {
		network.add("mDNS", warn, "%v: devices are found at remembered addresses only", err)
	} else {
		network.add("mDNS", ok, "%s answered", count(len(heard), "device"))
	}
	for _, d := range devices {
		e := examination{app: a, home: h, device: d, at: top.add(d.String(), ok, "%s", d.ID)}
		e.run(ctx, heard)
	}
	if len(devices) == 0 {
		top.add("devices", warn, "none is paired: press a device's pair button, then: keyhole pair")
	}
	return nil
}

// network tells by which interfaces devices could be reached.
func (c *check) network() *check {
	list, err := net.Interfaces()
	if err != nil {
		return c.or("network", err, "")
	}
	var up []string
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		if addresses, err := i.Addrs(); err == nil && len(addresses) > 0 {
			up = append(up, i.Name)
		}
	}
	if len(up) == 0 {
		return c.add("network", warn, "no interface but loopback has an address: only devices on this machine can be reached")
	}
	return c.add("network", ok, "%s", strings.Join(up, ", "))
}

var marks = map[string]string{ok: "ok  ", warn: "warn", failed: "FAIL", skipped: " -  "}

func (a *app) showTree(c *check) error {
	var b strings.Builder
	for _, child := range c.Checks {
		child.draw(&b, 0)
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func (c *check) draw(b *strings.Builder, depth int) {
	text := c.Name
	if c.State == skipped {
		text += " (not asked)"
	}
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	fmt.Fprintf(b, "%s %s%s\n", marks[c.State], strings.Repeat("  ", depth), plain(text))
	for _, child := range c.Checks {
		child.draw(b, depth+1)
	}
}
