package main

import (
	"fmt"
	"time"

	"github.com/keyholed/keyhole/daemon"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

func audit(c *call) error {
	c.flags.BoolVar(&c.json, "json", false, "")
	verify := c.flags.Bool("verify", false, "")
	after := c.flags.Uint64("after", 0, "")
	if err := c.parse(0, 2); err != nil {
		return err
	}
	switch {
	case *verify && len(c.args) == 2:
		return c.verifyFile(c.args[0], c.args[1])
	case *verify && len(c.args) == 1:
		return usagef("an export is checked against the id of its device: keyholed audit --verify %s ID", c.args[0])
	case len(c.args) > 0:
		return usagef("audit does not understand %q: a file goes with --verify", c.args[0])
	case *verify:
		return c.verify()
	}
	log, err := c.daemon().GetBytes(ctx, fmt.Sprintf("%s?after=%d&format=jsonl", control.AuditRoute, *after))
	if err != nil {
		return err
	}
	if c.json {
		_, err := c.stdout.Write(log)
		return err
	}
	return c.printAudit(log)
}

// printAudit prints an export for people.
func (c *call) printAudit(log []byte) error {
	rows, unset, err := api.AuditRows(log, time.Local)
	if err != nil {
		return err
	}
	if err := c.table(api.AuditColumns, rows); err != nil {
		return err
	}
	if unset {
		fmt.Fprintln(c.stderr, api.AuditClock)
	}
	return nil
}

func (c *call) verify() error {
	var v control.AuditVerdict
	if err := c.daemon().Get(ctx, control.VerifyRoute, &v); err != nil {
		return err
	}
	return c.printVerdict(v)
}

// verifyFile checks an export without asking any daemon.
func (c *call) verifyFile(file, id string) error {
	device, err := identity.ParseID(id)
	if err != nil {
		return usagef("%v", err)
	}
	v, err := daemon.VerifyExport(file, device)
	if err != nil {
		return err
	}
	return c.printVerdict(v)
}

func (c *call) printVerdict(v control.AuditVerdict) error {
	if c.json {
		if err := c.printJSON(v); err != nil {
			return err
		}
	}
	if !v.Whole {
		return fmt.Errorf("the log was changed or damaged: %s", v.Why)
	}
	if c.json {
		return nil
	}
	fmt.Fprintf(c.stdout, "the log is whole: lines %d to %d, chain and signatures hold\n", v.First, v.Last)
	if v.First > 1 {
		fmt.Fprintf(c.stdout, "lines before %d are not in it: the log is bounded, the oldest were dropped\n", v.First)
	}
	if v.Witnessed < v.Last {
		fmt.Fprintf(c.stdout, "lines behind %d are not witnessed yet by a signature: had the power failed, nobody could tell whether there were more\n", v.Witnessed)
	}
	return nil
}
