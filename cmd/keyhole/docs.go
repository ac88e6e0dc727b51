package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/internal/version"
)

func (a *app) versionCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "version", Short: "Which keyhole this is", Args: words(0, 0),
		Example: "  keyhole version",
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.document(map[string]string{"version": version.String()})
			}
			return a.tellVersion()
		},
	})
}

func (a *app) tellVersion() error {
	_, err := fmt.Fprintln(a.out, "keyhole", version.String())
	return err
}

// docsCommand writes what packagers ship.
func (a *app) docsCommand() *cobra.Command {
	c := &cobra.Command{Use: "docs", Short: "Write man pages", Hidden: true, Args: words(0, 0), Example: "  keyhole docs man /tmp/man"}
	c.AddCommand(&cobra.Command{
		Use: "man DIR", Short: "Man pages of all commands", Args: words(1, 1), Example: "  keyhole docs man /tmp/man",
		RunE: func(cmd *cobra.Command, args []string) error {
			return manPages(cmd.Root(), args[0])
		},
	})
	return c
}
