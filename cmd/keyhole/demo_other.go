//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// demoCommand says why there is none: the device side runs on Linux.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "Show it all on this machine (Linux only)", Hidden: true,
		Example: "  keyhole discover",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the demo runs a device, and those run Linux: pair with a real one, or try it on Linux")
		},
	}
}
