package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/keyholed/keyhole/basestation/admin"
)

func token(c *call) error {
	in := admin.TokenAdd{}
	c.flags.StringVar(&in.Scope, "scope", admin.ScopeRead, "")
	c.flags.StringVar(&in.Name, "name", "", "")
	c.flags.IntVar(&in.Uses, "uses", 0, "")
	expires := c.flags.Duration("expires", 0, "")
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(1, 2); err != nil {
		return err
	}
	if *expires < 0 || *expires > 0 && *expires < time.Second {
		return usagef("--expires %v: want at least 1s", *expires)
	}
	if in.Scope != admin.ScopeRead && in.Scope != admin.ScopeWrite {
		return usagef("--scope %q: want %s or %s", in.Scope, admin.ScopeRead, admin.ScopeWrite)
	}
	if in.Uses < 0 {
		return usagef("--uses %d: want 1 or more", in.Uses)
	}
	in.Seconds = int(*expires / time.Second)
	verb := c.args[0]
	words := map[string]int{"create": 1, "list": 1, "remove": 2}
	if words[verb] != len(c.args) {
		return usagef("token: want create, list, or remove ID")
	}
	base, err := c.running()
	if err != nil {
		return err
	}
	switch verb {
	case "create":
		var out admin.TokenMade
		if err := base.Do(context.Background(), http.MethodPost, "/v1/tokens", in, &out); err != nil {
			return err
		}
		if c.json {
			return c.print(out)
		}
		_, err = fmt.Fprintln(c.stdout, out.Token)
		return err
	case "remove":
		return base.Do(context.Background(), http.MethodDelete, "/v1/tokens/"+c.args[1], nil, nil)
	}
	return c.listTokens(base)
}

func (c *call) listTokens(base *admin.Client) error {
	var all admin.Tokens
	if err := base.Do(context.Background(), http.MethodGet, "/v1/tokens", nil, &all); err != nil {
		return err
	}
	if c.json {
		return c.print(all)
	}
	out := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, t := range all.Tokens {
		until, uses := "for ever", "any number of uses"
		if t.Expires != nil {
			until = "until " + t.Expires.Format(time.RFC3339)
		}
		if t.Uses > 0 {
			uses = fmt.Sprintf("%d uses left", t.Uses)
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Scope, dash(printable(t.Name)), until, uses)
	}
	return out.Flush()
}
