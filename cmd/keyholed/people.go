package main

import (
	"fmt"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
)

func users(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	var list api.Users
	if err := c.daemon().Get(ctx, control.UsersRoute, &list); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(list)
	}
	if len(list.Users) == 0 {
		fmt.Fprintln(c.stderr, "nobody may enter yet: press the pair button, then run `keyhole pair` on a laptop in the same network")
	}
	return c.table([]string{"USER", "ROLE", "NOW", "KEY", "FINGERPRINT"}, userRows(list))
}

// userRows has a row for each key, for each user who has none because a certificate
// names him, and for each who stays out.
func userRows(list api.Users) (rows [][]string) {
	for _, u := range list.Users {
		now := "-"
		if u.Online {
			now = "connected"
		}
		role := u.Role
		if u.Central {
			role += " (central)"
		}
		if u.Refused != "" {
			role += " (" + u.Refused + ")"
		}
		if len(u.Keys) == 0 {
			rows = append(rows, []string{u.Name, role, now, "by certificate", "-"})
		}
		for _, k := range u.Keys {
			rows = append(rows, []string{u.Name, role, now, k.Name, k.Fingerprint.Short()})
		}
	}
	for _, b := range list.Blocked {
		by := "by name"
		if n := len(b.Keys); n > 0 {
			by = fmt.Sprintf("%d keys", n)
		}
		rows = append(rows, []string{b.Name, "stays out", "-", by, "-"})
	}
	return rows
}

func revoke(c *call) error {
	if err := c.parse(1, 1); err != nil {
		return err
	}
	var done api.Revoked
	if err := c.daemon().Post(ctx, control.RevokeRoute, control.Revoke{Who: c.args[0]}, &done); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "revoked %s: %d keys may no longer enter, %d sessions ended\n", done.User, len(done.Keys), done.SessionsClosed)
	return err
}
