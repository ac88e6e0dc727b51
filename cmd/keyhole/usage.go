package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// help and usage are written by hand and not as cobra's templates: a template engine
// calls methods by their names, for which the linker keeps every method of
// everything in the program, a megabyte and a half.

func help(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	b.WriteString(cmd.Short + "\n")
	if cmd.Long != "" {
		b.WriteString("\n" + cmd.Long + "\n")
	}
	b.WriteString("\n" + usageOf(cmd))
	_, _ = io.WriteString(cmd.OutOrStdout(), b.String())
}

func usage(cmd *cobra.Command) error {
	_, err := io.WriteString(cmd.OutOrStderr(), usageOf(cmd))
	return err
}

func usageOf(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString("Usage:")
	switch {
	case cmd.Runnable() && cmd.HasAvailableSubCommands():
		fmt.Fprintf(&b, "\n  %s COMMAND [--help]", cmd.CommandPath())
	case cmd.Runnable():
		b.WriteString("\n  " + cmd.UseLine())
	}
	for _, group := range cmd.Groups() {
		b.WriteString("\n\n" + group.Title)
		var named []string
		for _, c := range cmd.Commands() {
			switch {
			case c.GroupID != group.ID || !c.IsAvailableCommand():
			case group.ID == groupMore:
				named = append(named, c.Name())
			default:
				fmt.Fprintf(&b, "\n  %-10s %s", c.Name(), c.Short)
			}
		}
		if named != nil {
			b.WriteString("\n  " + strings.Join(named, ", "))
		}
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		b.WriteString("\n\nFlags:\n" + strings.TrimRight(flags.FlagUsages(), " \n"))
	}
	if flags := cmd.InheritedFlags(); flags.HasAvailableFlags() {
		b.WriteString("\n\nFlags of every command:\n" + strings.TrimRight(flags.FlagUsages(), " \n"))
	}
	return b.String() + "\n\nExample:\n" + cmd.Example + "\n"
}
