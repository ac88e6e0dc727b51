package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const (
	groupUse    = "use"
	groupPeople = "people"
	groupHelp   = "help"
	groupMore   = "more" // only named, so that the help fits a screen
)

// root returns the command tree.
func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false
	tellVersion := new(bool)
	root := &cobra.Command{
		Use:   "keyhole",
		Short: "Reach the cameras and services of your own devices, encrypted end to end.",
		Example: `  keyhole discover
  keyhole pair                      # after pressing the device's pair button
  keyhole connect rtsp              # prints rtsp://127.0.0.1:10554/`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, words []string) error {
			switch {
			case *tellVersion:
				return a.tellVersion()
			case len(words) > 0:
				return a.unknownCommand(cmd, words[0])
			}
			return cmd.Help()
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetUsageFunc(usage)
	root.SetHelpFunc(help)
	root.Flags().BoolVar(tellVersion, "version", false, "version for keyhole")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err.Error()} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	root.PersistentFlags().StringVar(&a.dir, "home", "", "`directory` of the address book and identity.pem (default: your configuration directory)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "tell what happens underneath")
	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Devices and their services:"},
		&cobra.Group{ID: groupPeople, Title: "Who may enter:"},
		&cobra.Group{ID: groupHelp, Title: "Help:"},
		&cobra.Group{ID: groupMore, Title: "More, each with --help of its own:"},
	)
	for _, c := range []struct {
		group string
		*cobra.Command
	}{
		{groupUse, a.discoverCommand()}, {groupUse, a.pairCommand()}, {groupUse, a.devicesCommand()},
		{groupUse, a.servicesCommand()}, {groupUse, a.connectCommand()}, {groupUse, a.openCommand()},
		{groupMore, a.execCommand()}, {groupMore, a.callCommand()}, {groupMore, a.eventsCommand()},
		{groupMore, a.forgetCommand()},
		{groupPeople, a.usersCommand()}, {groupPeople, a.revokeCommand()}, {groupPeople, a.roleCommand()}, {groupPeople, a.supportCommand()},
		{groupMore, a.limitCommand()}, {groupMore, a.grantCommand()}, {groupMore, a.renameCommand()}, {groupMore, a.unblockCommand()},
		{groupMore, a.sessionsCommand()}, {groupPeople, a.auditCommand()},
		{groupMore, a.certificateCommand()},
		{groupPeople, a.inviteCommand()}, {groupMore, a.invitesCommand()},
		{groupHelp, demoCommand()}, {groupHelp, a.doctorCommand()}, {groupMore, a.versionCommand()},
	} {
		c.GroupID = c.group
		root.AddCommand(c.Command)
	}
	root.AddCommand(a.docsCommand())
	root.SetHelpCommandGroupID(groupHelp)
	root.InitDefaultHelpCmd()
	return root
}

// unknownCommand guesses what was meant.
func (a *app) unknownCommand(cmd *cobra.Command, word string) error {
	text := fmt.Sprintf("there is no command %q", plain(word))
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		text += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return &usageError{"keyhole", text}
}

// words checks how many words follow a command.
func words(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return &usageError{cmd.CommandPath(), "something is missing: " + cmd.UseLine()}
		case most >= 0 && len(args) > most:
			return &usageError{cmd.CommandPath(), fmt.Sprintf("one word too many: %q", plain(args[most]))}
		}
		return nil
	}
}

// A usageError ends the program with exit code 2.
type usageError struct{ command, text string }

func (e *usageError) Error() string { return e.text }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Sprintf(format, args...)}
}

// errSilent ends the program with an exit code when all was said already.
type errSilent int

func (e errSilent) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

var errInterrupted = errors.New("interrupted")
