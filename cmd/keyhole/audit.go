package main

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/api"
)

func (a *app) auditCommand() *cobra.Command {
	var after uint64
	var file string
	c := &cobra.Command{
		Use: "audit [DEVICE] [--out FILE]", Short: "Who did, tried and was refused what at a device", Args: words(0, 1),
		Long: `The device's audit log. With --json or --out it is an export: each line as the device signed it,
with a signed end, so that whoever knows the device's id can check it: keyholed audit --verify FILE ID`,
		Example: "  keyhole audit --out audit.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.audit(cmd.Context(), args, after, file)
		},
	}
	c.Flags().Uint64Var(&after, "after", 0, "only what follows line `NUMBER`")
	c.Flags().StringVarP(&file, "out", "o", "", "write the export to `FILE`")
	return a.jsonFlag(c)
}

func (a *app) audit(ctx context.Context, args []string, after uint64, file string) error {
	conn, _, err := a.reach(ctx, args, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	var log bytes.Buffer // bounded by ExportAudit
	if err := conn.ExportAudit(ctx, after, &log); err != nil {
		return err
	}
	switch {
	case file != "":
		if err := durable.WriteFile(file, log.Bytes(), 0o600); err != nil {
			return err
		}
		a.say("wrote %s of %s; check it anywhere with: keyholed audit --verify %s %s", count(bytes.Count(log.Bytes(), []byte("\n"))-1, "line"), conn.Device(), file, conn.Peer().ID())
		return nil
	case a.json:
		_, err := a.out.Write(log.Bytes())
		return err
	}
	return a.showAudit(log.Bytes())
}

func (a *app) showAudit(log []byte) error {
	rows, unset, err := api.AuditRows(log, time.Local)
	if err != nil {
		return err
	}
	if err := a.table(api.AuditColumns, rows); err != nil {
		return err
	}
	if unset {
		a.say("%s", strings.ToLower(api.AuditClock))
	}
	return nil
}
