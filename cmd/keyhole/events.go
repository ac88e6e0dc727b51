package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/api"
)

const (
	auditPage   = 1000
	recentShown = 20
)

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use: "events [DEVICE] [--follow]", Short: "What happened at a device, or happens", Args: words(0, 1),
		Example: "  keyhole events --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, _, err := a.reach(cmd.Context(), args, 0)
			if err != nil {
				return err
			}
			defer conn.Close()
			if follow {
				return a.follow(cmd.Context(), conn)
			}
			return a.recent(cmd.Context(), conn)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "print what happens from now on, until interrupted")
	return a.jsonFlag(c)
}

// follow prints events as they come, with --json one document a line.
func (a *app) follow(ctx context.Context, conn *client.Conn) error {
	events, err := conn.Events(ctx)
	if err != nil {
		return err
	}
	defer events.Close()
	a.say("following %s (Ctrl-C ends)", conn.Device())
	for {
		ev, err := events.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			return &client.UnreachableError{Device: conn.Device().String(), Err: errors.New("it has ended the stream")}
		case err != nil:
			return err
		}
		if err := a.showEvent(ev); err != nil {
			return err
		}
	}
}

func (a *app) showEvent(ev api.Event) error {
	if a.json {
		return a.line(ev)
	}
	text := strings.Join(strings.Fields(strings.Join([]string{ev.Kind, ev.What, ev.User, ev.Service, ev.Detail}, " ")), " ")
	_, err := fmt.Fprintln(a.out, plain(text))
	return err
}

// recent prints the last entries of the audit log.
func (a *app) recent(ctx context.Context, conn *client.Conn) error {
	var last []json.RawMessage
	for after := uint64(0); ; {
		page, err := conn.Audit(ctx, after, auditPage)
		if err != nil {
			return err
		}
		last = append(last, page.Entries...)
		last = last[max(0, len(last)-recentShown):]
		if page.Next <= after {
			break
		}
		after = page.Next
	}
	for _, entry := range last {
		if err := a.showEntry(entry); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) showEntry(entry json.RawMessage) error {
	if a.json {
		return a.line(entry)
	}
	line, err := api.ParseAuditLine(entry)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, strings.Join(line.Columns(time.Local), "  "))
	return err
}
