package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/identity"
)

// elsewhere are the flags that say where a device is known which one is not paired
// with.
type elsewhere struct {
	at   string
	keys []string
}

func (e *elsewhere) flags(c *cobra.Command) {
	c.Flags().StringVar(&e.at, "at", "", "`address` of the basestation of a device that is not paired: HOST:PORT")
	c.Flags().StringArrayVar(&e.keys, "key", nil, "root `key` of that basestation (default: as devices in the address book have it)")
}

func (e elsewhere) given() bool { return e.at != "" || len(e.keys) > 0 }

// dialFor opens a session for tunnels, with a device of the address book or another.
// Who is not paired has all tunnels in that session: the device has few places for
// strangers.
func (a *app) dialFor(ctx context.Context, cmd *cobra.Command, h *client.Home, target string, e elsewhere) (*client.Conn, client.DialOptions, error) {
	o := client.DialOptions{Tunnels: true, Log: a.log()}
	_, err := h.Lookup(target)
	if err == nil {
		conn, err := a.dial(ctx, h, target, o)
		return conn, o, err
	}
	o.Tunnels = false
	if !e.given() {
		conn, err := a.dial(ctx, h, target, o)
		return conn, o, a.orElsewhere(target, err)
	}
	t, err := client.ParseTarget(target)
	if err != nil || t.ID == "" {
		return nil, o, usagef(cmd, "a basestation knows devices by their whole id: 26 letters and digits, as on the label")
	}
	base, err := a.supportBase(h, supportFlags{at: e.at, keys: e.keys})
	if err != nil {
		return nil, o, usagef(cmd, "%v", err)
	}
	conn, err := a.dialThere(ctx, h, t.ID, base, o)
	return conn, o, err
}

func (a *app) dialThere(ctx context.Context, h *client.Home, id identity.ID, base client.Basestation, o client.DialOptions) (*client.Conn, error) {
	defer a.waiting("looking for " + string(id))()
	return h.DialStranger(ctx, id, base, nil, o)
}

// orElsewhere says what is missing to reach a device that is not in this network.
func (a *app) orElsewhere(target string, err error) error {
	var away *client.UnreachableError
	if t, wrong := client.ParseTarget(target); wrong == nil && t.ID != "" && errors.As(err, &away) {
		a.say("note: a device that is not paired is looked for in this network alone; elsewhere by --at BASESTATION --key ROOTKEY")
	}
	return err
}
