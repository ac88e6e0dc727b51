package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// devicesWait is how long `devices` gives each device to answer.
	// A basestation says no after a second, and is asked again.
	devicesWait = 6 * time.Second
	// devicesAtOnce bounds how many are asked at the same time.
	devicesAtOnce = 16
)

func (a *app) devicesCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "devices", Short: "What you are paired with, and how to reach it now", Args: words(0, 0),
		Example: "  keyhole devices --json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.devices(cmd.Context()) },
	})
}

// deviceNow is a device of `devices --json`.
type deviceNow struct {
	client.Device
	Reachable bool   `json:"reachable"`
	Path      string `json:"path"`    // "tcp", "quic", or "" when not reachable
	Via       string `json:"via"`     // "direct", "punched", "relay", or "" when not reachable
	Address   string `json:"address"` // where it answered; of the relay, if it is one
	Why       string `json:"why,omitempty"`
	// OfflineSince is when its basestation last heard of it, where it says so: in UTC.
	OfflineSince *time.Time `json:"offline_since,omitempty"`
}

func (a *app) devices(ctx context.Context) error {
	h, err := a.home()
	if err != nil {
		return err
	}
	known, err := h.Devices()
	if err != nil {
		return err
	}
	list := make([]deviceNow, len(known))
	places := make(chan struct{}, devicesAtOnce)
	var asking sync.WaitGroup
	for i, d := range known {
		asking.Go(func() {
			places <- struct{}{}
			list[i] = a.now(ctx, h, d)
			<-places
		})
	}
	asking.Wait()
	if a.json {
		return a.document(map[string]any{"devices": list})
	}
	if len(list) == 0 {
		a.say("no device is paired: press a device's pair button, then: keyhole pair")
		return nil
	}
	var rows [][]string
	for _, d := range list {
		how := "not reachable: " + d.Why
		if d.Reachable {
			how = d.Path + " " + d.Address + map[string]string{"punched": ", punched", "relay": ", by relay"}[d.Via]
		}
		rows = append(rows, []string{d.Name, string(d.ID), d.User, d.Role, how})
	}
	return a.table([]string{"NAME", "ID", "YOU ARE", "ROLE", "REACHED BY"}, rows)
}

func (a *app) now(ctx context.Context, h *client.Home, d client.Device) deviceNow {
	ctx, cancel := context.WithTimeout(ctx, devicesWait)
	defer cancel()
	conn, err := h.DialDevice(ctx, d, client.DialOptions{Log: a.log()})
	if err != nil {
		now := deviceNow{Device: d, Why: why(err)}
		var no *client.NotIntroducedError
		if errors.As(err, &no) && !no.Since.IsZero() {
			since := no.Since.UTC()
			now.OfflineSince = &since
		}
		return now
	}
	defer conn.Close()
	return deviceNow{Device: conn.Device(), Reachable: true, Path: string(conn.Path()), Via: string(conn.Via()), Address: conn.RemoteAddr().String()}
}

// why is the short reason for a list.
func why(err error) string {
	var wrong *identity.MismatchError
	var no *client.NotIntroducedError
	switch {
	case errors.As(err, &no) && no.Offline:
		return no.Error()
	case errors.Is(err, client.ErrBasestation):
		return "its basestation leads to somebody else"
	case errors.As(err, &wrong):
		return "another device answers at its address"
	case errors.As(err, &no):
		return "not here, and its basestation does not introduce us"
	case errors.Is(err, client.ErrNotAnswered), errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	}
	return "no session"
}

func (a *app) servicesCommand() *cobra.Command {
	return a.atFlag(a.jsonFlag(&cobra.Command{
		Use: "services [DEVICE]", Short: "What a device offers", Args: words(0, 1),
		Example: "  keyhole services",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.services(cmd.Context(), args) },
	}))
}

func (a *app) services(ctx context.Context, args []string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := conn.Services(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(map[string]any{"device": conn.Device().ID, "services": list})
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.Name, s.Type, yes(s.Port > 0, fmt.Sprint(s.Port)), yes(!s.Allowed, "not for you")})
	}
	if len(rows) == 0 {
		a.say("%s offers no services", conn.Device())
	}
	return a.table([]string{"NAME", "TYPE", "PORT", ""}, rows)
}

// reach dials the device that args name and returns the n words behind it.
func (a *app) reach(ctx context.Context, args []string, n int) (*client.Conn, []string, error) {
	h, err := a.home()
	if err != nil {
		return nil, nil, err
	}
	target, rest, err := a.device(h, args, n)
	if err != nil {
		return nil, nil, err
	}
	conn, err := a.dial(ctx, h, target, client.DialOptions{})
	return conn, rest, err
}

func (a *app) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget DEVICE", Short: "Strike a device from the address book", Args: words(1, 1),
		Long:    "The device is not asked: it knows this client until somebody runs `keyhole revoke`.",
		Example: `  keyhole forget "Front door"`,
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := a.home()
			if err != nil {
				return err
			}
			d, err := h.Lookup(args[0])
			if err != nil {
				return err
			}
			if err := h.Forget(d.Fingerprint); err != nil {
				return err
			}
			a.say("forgotten: %s (%s). It still knows you as %s.", d.Name, d.ID, d.User)
			return nil
		},
	}
}
