package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/protocol/api"
)

func (a *app) usersCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "users [DEVICE]", Short: "Who may enter a device", Args: words(0, 1),
		Example: "  keyhole users",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.users(cmd.Context(), args) },
	})
}

func (a *app) users(ctx context.Context, args []string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	everybody, err := conn.Everybody(ctx)
	if err != nil {
		return err
	}
	list := everybody.Users
	if a.json {
		if everybody.Blocked == nil {
			everybody.Blocked = []api.Blocked{}
		}
		return a.document(map[string]any{"device": conn.Device().ID, "users": list, "blocked": everybody.Blocked})
	}
	var rows [][]string
	for _, u := range list {
		var keys []string
		if u.Kind == "authority" {
			keys = append(keys, "by certificate")
		}
		for _, k := range u.Keys {
			keys = append(keys, k.Name+" "+k.Fingerprint.Short())
		}
		role := u.Role
		if u.Central {
			role += " (central)"
		}
		rows = append(rows, []string{u.Name, role + limitWords(u.Limits, u.Refused), yes(u.Online, "online"), strings.Join(keys, ", ")})
		for _, g := range u.Grants {
			rows = append(rows, []string{"", "+ " + g.Service + limitWords(g.Limits, ""), "", ""})
		}
	}
	for _, b := range everybody.Blocked {
		rows = append(rows, []string{b.Name, "stays out", "", count(len(b.Keys), "key")})
	}
	return a.table([]string{"NAME", "ROLE", "", "KEYS"}, rows)
}

func (a *app) revokeCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "revoke [DEVICE] USER", Short: "Who may no longer enter, from this second", Args: words(1, 2),
		Long:    "USER is a name, the fingerprint of one key, or the e-mail address of somebody who comes with a certificate. Open sessions and tunnels are cut at once.",
		Example: `  keyhole revoke "Front door" Bob`,
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, rest, err := a.reach(cmd.Context(), args, 1)
			if err != nil {
				return err
			}
			defer conn.Close()
			r, err := conn.Revoke(cmd.Context(), rest[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.document(r)
			}
			a.say("revoked: %s, %s, %s cut", r.User, count(len(r.Keys), "key"), count(r.SessionsClosed, "session"))
			return nil
		},
	})
}

// noRole takes a certified user's role back.
const noRole = "none"

func (a *app) roleCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "role [DEVICE] USER ROLE", Short: "Give a user another role", Args: words(2, 3),
		Long: `USER is a name, or the e-mail address or URI of somebody who comes with a certificate
(ca:NAME for a common name); "none" takes back what was given to such a one.`,
		Example: `  keyhole role "Front door" Bob owner
  keyhole role "Front door" alice@example.net viewer`,
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, rest, err := a.reach(cmd.Context(), args, 2)
			if err != nil {
				return err
			}
			defer conn.Close()
			u, err := conn.SetRole(cmd.Context(), rest[0], rest[1])
			if err != nil {
				return err
			}
			if a.json {
				return a.document(u)
			}
			if rest[1] == noRole {
				a.say("%s has no role of yours any more%s", u.Name, yes(u.Role != "", ": the configuration gives "+u.Role))
				return nil
			}
			a.say("%s is %s now", u.Name, u.Role)
			return nil
		},
	})
}
