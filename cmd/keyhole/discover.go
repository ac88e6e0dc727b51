package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/identity"
)

func (a *app) discoverCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "discover [--wait 3s]", Short: "Devices on this network", Args: words(0, 0),
		Example: "  keyhole discover --wait 5s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait <= 0 {
				return &usageError{cmd.CommandPath(), "--wait is how long to listen: want more than 0s"}
			}
			return a.discover(cmd.Context(), wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", client.FindTime, "how long to listen")
	return a.jsonFlag(c)
}

// heard is a device of `discover --json`.
type heard struct {
	ID        identity.ID `json:"id"`
	Name      string      `json:"name"`
	Product   string      `json:"product"`
	Addresses []string    `json:"addresses"`
	Pair      []string    `json:"pair"` // modes open now
	Paired    bool        `json:"paired"`
}

func (a *app) discover(ctx context.Context, wait time.Duration) error {
	h, err := a.home()
	if err != nil {
		return err
	}
	found, err := a.find(ctx, wait)
	if err != nil {
		return err
	}
	known := map[identity.ID]bool{}
	devices, err := h.Devices()
	if err != nil {
		return err
	}
	for _, d := range devices {
		known[d.ID] = true
	}
	list := []heard{}
	var rows [][]string
	for _, f := range found {
		x := heard{ID: f.ID, Name: f.Name, Product: f.Product, Addresses: []string{}, Pair: append([]string{}, f.Pair...), Paired: known[f.ID]}
		for _, at := range f.Addresses {
			x.Addresses = append(x.Addresses, at.String())
		}
		list = append(list, x)
		first := ""
		if len(x.Addresses) > 0 {
			first = x.Addresses[0]
		}
		rows = append(rows, []string{x.Name, string(x.ID), x.Product, first, yes(x.Paired, "paired") + yes(len(x.Pair) > 0, "open: "+strings.Join(x.Pair, ","))})
	}
	if a.json {
		return a.document(map[string]any{"devices": list})
	}
	if len(rows) == 0 {
		a.say("no device answered within %v: is it on, and on this network? An address works too: keyhole pair HOST:PORT", wait)
		return nil
	}
	return a.table([]string{"NAME", "ID", "PRODUCT", "ADDRESS", ""}, rows)
}

func (a *app) find(ctx context.Context, wait time.Duration) ([]client.Found, error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if isTerminal(a.err) {
		a.say("listening for %v…", wait)
	}
	found, err := client.Find(limited)
	switch {
	case err != nil:
		return nil, &client.UnreachableError{Device: "the local network", Err: err}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return found, nil
}
