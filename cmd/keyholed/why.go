package main

import (
	"fmt"
	"net/url"

	"github.com/keyholed/keyhole/daemon/control"
)

// why explains what somebody may do, and why, as the device would decide now.
func why(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	if err := c.parse(2, 3); err != nil {
		return err
	}
	q := url.Values{"who": {c.args[0]}, "action": {c.args[1]}}
	if len(c.args) > 2 {
		q.Set("service", c.args[2])
	}
	var out control.Why
	if err := c.daemon().Get(ctx, control.WhyRoute+"?"+q.Encode(), &out); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(out)
	}
	answer := "no"
	if out.Allow {
		answer = "yes"
	}
	who := out.Who
	if out.User != "" {
		who = out.User
	}
	if out.Role != "" {
		who += ", " + out.Role
	}
	fmt.Fprintf(c.stdout, "%s: %s (%s)\n", answer, out.Reason, who)
	for _, note := range out.Notes {
		fmt.Fprintf(c.stdout, "     %s\n", note)
	}
	return nil
}
