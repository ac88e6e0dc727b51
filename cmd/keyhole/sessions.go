package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

func (a *app) sessionsCommand() *cobra.Command {
	var end uint64
	c := &cobra.Command{
		Use: "sessions [DEVICE] [--end NUMBER]", Short: "Who is connected, who watches, and end one", Args: words(0, 1),
		Long:    "Whoever may not see all sessions of the device sees, and ends, his own.",
		Example: "  keyhole sessions",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("end") {
				return a.endSession(cmd.Context(), args, end)
			}
			return a.sessions(cmd.Context(), args)
		},
	}
	c.Flags().Uint64Var(&end, "end", 0, "end session `NUMBER` and what is open in it")
	return a.jsonFlag(c)
}

func (a *app) sessions(ctx context.Context, args []string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := conn.Sessions(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(struct {
			Device identity.ID `json:"device"`
			api.Sessions
		}{conn.Device().ID, list})
	}
	var rows [][]string
	for _, s := range list.Sessions {
		who := s.User
		if who == "" {
			who = s.Kind + " " + s.Fingerprint.Short()
		}
		age := time.Duration(s.Seconds) * time.Second
		rows = append(rows, []string{fmt.Sprint(s.Number), who, s.Path + " " + s.Via, age.String(), s.Remote, opened(list, s.Number)})
	}
	if err := a.table([]string{"NUMBER", "WHO", "PATH", "FOR", "FROM", "OPEN"}, rows); err != nil {
		return err
	}
	if n := len(list.Watching); n > 0 {
		_, err = fmt.Fprintln(a.out, plain(fmt.Sprintf("%d watching: %s", n, strings.Join(list.Watching, ", "))))
	}
	return err
}

// opened says in words what is open in a session.
func opened(list api.Sessions, session uint64) string {
	var words []string
	for _, t := range list.Tunnels {
		if t.Session == session {
			words = append(words, fmt.Sprintf("%s (%s up, %s down)", t.Service, api.Bytes(uint64(t.Up)), api.Bytes(uint64(t.Down))))
		}
	}
	return strings.Join(words, ", ")
}

func (a *app) endSession(ctx context.Context, args []string, number uint64) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	ended, err := conn.EndSession(ctx, number)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(ended)
	}
	a.say("session %d is ended", ended.Number)
	return nil
}
