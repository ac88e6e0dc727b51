package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/api"
)

// limitFlags are --until and --hours of a user, a grant or an invite.
type limitFlags struct {
	until string
	hours []string
}

func (f *limitFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.until, "until", "", "`date` when the user's right ends: 2027-01-31, or with a time")
	c.Flags().StringArrayVar(&f.hours, "hours", nil, "weekly `hours` in the device's zone, such as \"mon-fri 08:00-18:00\"; may be given again")
}

func (f *limitFlags) none() bool { return f.until == "" && len(f.hours) == 0 }

func (f *limitFlags) limits(cmd *cobra.Command) (l api.Limits, err error) {
	if f.until != "" {
		t, err := parseUntil(f.until, time.Local)
		if err != nil {
			return l, usagef(cmd, "--until %v", err)
		}
		l.Until = &t
	}
	for _, text := range f.hours {
		h, err := parseHours(text)
		if err != nil {
			return l, usagef(cmd, "--hours %v", err)
		}
		l.Hours = append(l.Hours, h)
	}
	return l, nil
}

// limitWords are what stands behind a role or a grant that is limited.
func limitWords(l api.Limits, refused string) string {
	words := whenEnds(l.Until)
	for _, h := range l.Hours {
		words += ", " + hoursWords(h)
	}
	if refused != "" {
		words += " (" + refused + ")"
	}
	return words
}

func hoursWords(h api.Hours) string {
	var days []string
	for _, d := range h.Days {
		if d >= 0 && d < len(weekdays) {
			days = append(days, weekdays[d])
		}
	}
	return fmt.Sprintf("%s %02d:%02d-%02d:%02d", strings.Join(days, ","), h.From/60, h.From%60, h.To/60, h.To%60)
}

func (a *app) limitCommand() *cobra.Command {
	var f limitFlags
	var always bool
	c := &cobra.Command{
		Use: "limit [DEVICE] USER", Short: "When a user may enter", Args: words(1, 2),
		Long: "Until a date, in weekly hours, or both. What the user has open outside of that ends at once.",
		Example: `  keyhole limit "Front door" Bob --until 2027-01-31 --hours "mon-fri 08:00-18:00"
  keyhole limit "Front door" Bob --always`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.none() != always {
				return usagef(cmd, "say --until, --hours or both; or --always")
			}
			l, err := f.limits(cmd)
			if err != nil {
				return err
			}
			return a.changeUser(cmd, args, 1, func(conn *client.Conn, rest []string) (api.User, error) {
				return conn.Limit(cmd.Context(), rest[0], l)
			}, func(u api.User) string { return u.Name + " may enter" + orAlways(limitWords(u.Limits, u.Refused)) })
		},
	}
	f.add(c)
	c.Flags().BoolVar(&always, "always", false, "without an end and at all hours")
	return a.jsonFlag(c)
}

func orAlways(words string) string {
	if words == "" {
		return " always"
	}
	return strings.TrimPrefix(words, ",")
}

func (a *app) grantCommand() *cobra.Command {
	var f limitFlags
	var end bool
	c := &cobra.Command{
		Use: "grant [DEVICE] USER SERVICE", Short: "One service for one user, whatever the role", Args: words(2, 3),
		Example: `  keyhole grant "Front door" Bob ssh --until 2027-01-31
  keyhole grant "Front door" Bob ssh --end`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if end && !f.none() {
				return usagef(cmd, "--end takes the grant back: it goes with nothing else")
			}
			l, err := f.limits(cmd)
			if err != nil {
				return err
			}
			var service string
			return a.changeUser(cmd, args, 2, func(conn *client.Conn, rest []string) (api.User, error) {
				service = rest[1]
				if end {
					return conn.RevokeGrant(cmd.Context(), rest[0], service)
				}
				return conn.Grant(cmd.Context(), rest[0], service, l)
			}, func(u api.User) string {
				if end {
					return u.Name + " has no grant of " + service + " any more"
				}
				return u.Name + " may use " + service + orAlways(limitWords(l, ""))
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&end, "end", false, "take it back")
	return a.jsonFlag(c)
}

func (a *app) renameCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "rename [DEVICE] USER NAME", Short: "Another name for a user, or for yourself", Args: words(2, 3),
		Example: `  keyhole rename "Front door" Bob "Bob Jones"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeUser(cmd, args, 2, func(conn *client.Conn, rest []string) (api.User, error) {
				return conn.Rename(cmd.Context(), rest[0], rest[1])
			}, func(u api.User) string { return "the name is " + u.Name + " now" })
		},
	})
}

// changeUser makes one change of a user and says what came of it.
func (a *app) changeUser(cmd *cobra.Command, args []string, words int, change func(*client.Conn, []string) (api.User, error), say func(api.User) string) error {
	conn, rest, err := a.reach(cmd.Context(), args, words)
	if err != nil {
		return err
	}
	defer conn.Close()
	u, err := change(conn, rest)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(u)
	}
	a.say("%s", say(u))
	return nil
}

func (a *app) unblockCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "unblock [DEVICE] NAME", Short: "Who may be vouched for again", Args: words(1, 2),
		Long: `NAME is one that "keyhole users" shows as staying out: ca:NAME, central:NAME. The keys of a former
user are let in again by pairing them.`,
		Example: `  keyhole unblock "Front door" central:x`,
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, rest, err := a.reach(cmd.Context(), args, 1)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.Unblock(cmd.Context(), rest[0]); err != nil {
				return err
			}
			if a.json {
				return a.document(api.Unblocked{Name: rest[0]})
			}
			a.say("%s may be vouched for again", rest[0])
			return nil
		},
	})
}
