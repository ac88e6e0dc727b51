package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
)

// atFlag gives a command the flags by which a device is reached that is not in the
// address book: the bearer of a grant of its vendor was never near enough to be told
// where it is.
func (a *app) atFlag(c *cobra.Command) *cobra.Command {
	a.at.flags(c)
	return c
}

// errAtWhom means that --at does not say of which device.
var errAtWhom = errors.New("--at is the basestation of a device that is not paired: name it by its id of 26 characters")

// dialAt has the basestation of --at introduce us to a device by its id. A device that is
// paired needs no --at, and is dialled as always.
func (a *app) dialAt(ctx context.Context, h *client.Home, target string, o client.DialOptions) (*client.Conn, error) {
	if _, err := h.Lookup(target); err == nil {
		return h.Dial(ctx, target, o)
	}
	t, err := client.ParseTarget(target)
	if err != nil {
		return nil, err
	}
	if t.ID == "" || t.Address != "" {
		return nil, &usageError{"keyhole", errAtWhom.Error()}
	}
	b, err := a.supportBase(h, supportFlags{at: a.at.at, keys: a.at.keys})
	if err != nil {
		return nil, &usageError{"keyhole", err.Error()}
	}
	return h.DialStranger(ctx, t.ID, b, nil, o)
}
