package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/internal/qrcode"
	"github.com/keyholed/keyhole/protocol/api"
)

// inviteFlags are those of `keyhole invite`.
type inviteFlags struct {
	limitFlags // of the new user
	role, name string
	valid      time.Duration
	myself, qr bool
}

func (a *app) inviteCommand() *cobra.Command {
	var f inviteFlags
	c := &cobra.Command{
		Use: "invite [DEVICE]", Short: "A link that lets one person in, once, from anywhere", Args: words(0, 1),
		Long: `Whoever has the link becomes a user of the device with keyhole pair LINK: give it to that
person alone. It is good once, for 24 hours; keyhole invites lists and withdraws.
With --myself it adds another device of your own to your user instead.`,
		Example: `  keyhole invite "Front door" --role viewer --until 2027-01-31 --qr
  keyhole invite --myself --qr`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.myself == (f.role != "") || f.myself && (f.name != "" || !f.none()) {
				return usagef(cmd, "say --role ROLE for somebody else (and --for, --until, --hours if you like), or --myself alone")
			}
			return a.invite(cmd, args, f)
		},
	}
	c.Flags().StringVar(&f.role, "role", "", "`role` of the new user: at most your own, never owner")
	c.Flags().StringVar(&f.name, "for", "", "`name` of the new user (default: as he says himself)")
	f.add(c)
	c.Flags().DurationVar(&f.valid, "valid", 0, "how long the link is good (default 24h)")
	c.Flags().BoolVar(&f.myself, "myself", false, "for another device of your own")
	c.Flags().BoolVar(&f.qr, "qr", false, "show the link as a QR code too")
	return a.jsonFlag(c)
}

// request is what to ask the device for.
func (f inviteFlags) request(cmd *cobra.Command) (r api.InviteRequest, err error) {
	l, err := f.limits(cmd)
	return api.InviteRequest{Role: f.role, For: f.name, Until: l.Until, Hours: l.Hours, Seconds: int64(f.valid / time.Second)}, err
}

func (a *app) invite(cmd *cobra.Command, args []string, f inviteFlags) error {
	r, err := f.request(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	var made api.NewInvite
	if f.myself {
		made, err = conn.InviteMyself(ctx, api.OwnInviteRequest{Seconds: r.Seconds})
	} else {
		made, err = conn.Invite(ctx, r)
	}
	if err != nil {
		return err
	}
	if !client.IsLink(made.Link) {
		return client.ErrNotLink
	}
	if f.qr {
		if err := a.showQR(made.Link); err != nil {
			return err
		}
	}
	if a.json {
		return a.document(made)
	}
	a.say("This link lets one client in, once%s. Give it to nobody else:", whenEnds(made.Ends))
	_, err = fmt.Fprintln(a.out, plain(made.Link))
	return err
}

func whenEnds(t *time.Time) string {
	if t == nil {
		return ""
	}
	return ", until " + t.Local().Format("2006-01-02 15:04")
}

// showQR draws a link for a phone to read; in capitals the code is smaller.
func (a *app) showQR(link string) error {
	c, err := qrcode.Encode(strings.ToUpper(link))
	if err != nil {
		return err
	}
	drawn := c.Blocks()
	if isTerminal(a.err) {
		drawn = c.Coloured()
	}
	_, err = fmt.Fprint(a.err, drawn)
	return err
}

func (a *app) invitesCommand() *cobra.Command {
	var withdraw string
	c := &cobra.Command{
		Use: "invites [DEVICE]", Short: "Links that are still good, and to withdraw one", Args: words(0, 1),
		Long:    "Who manages users sees all of them, everybody else his own.",
		Example: `  keyhole invites "Front door" --revoke 04e459198e0cb5ea`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if withdraw != "" {
				return a.uninvite(cmd.Context(), args, withdraw)
			}
			return a.invites(cmd.Context(), args)
		},
	}
	c.Flags().StringVar(&withdraw, "revoke", "", "`name` of an invite that shall be good no more")
	return a.jsonFlag(c)
}

func (a *app) invites(ctx context.Context, args []string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := conn.Invites(ctx)
	if err != nil {
		return err
	}
	if a.json {
		if list == nil {
			list = []api.Invite{}
		}
		return a.document(map[string]any{"device": conn.Device().ID, "invites": list})
	}
	var rows [][]string
	for _, i := range list {
		role, ends := i.Role, ""
		if i.Myself {
			role = "another key of " + i.By
		}
		if i.Ends != nil {
			ends = i.Ends.Local().Format("2006-01-02 15:04")
		}
		rows = append(rows, []string{i.Name, role, i.For, i.By, ends, i.Refused})
	}
	return a.table([]string{"INVITE", "ROLE", "FOR", "BY", "GOOD UNTIL", ""}, rows)
}

func (a *app) uninvite(ctx context.Context, args []string, name string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Uninvite(ctx, name); err != nil {
		return err
	}
	if a.json {
		return a.document(api.Uninvited{Name: name})
	}
	a.say("withdrawn: %s lets nobody in any more", name)
	return nil
}
