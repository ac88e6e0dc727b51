package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manPages writes one page for each command. (The generator that comes with
// cobra goes by way of Markdown, and would make the program half a megabyte
// larger.)
func manPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		if c.Hidden || !c.IsAvailableCommand() && c != root {
			continue
		}
		if err := manFile(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manFile(c *cobra.Command, dir string) error {
	f, err := os.Create(filepath.Join(dir, manName(c)+".1"))
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, manPage(c))
	return errors.Join(err, f.Close())
}

// manPage is a page in the man(7) macros. It has no date: the same source makes
// the same page.
func manPage(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" keyhole Keyhole\n", strings.ToUpper(manName(c)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n", roff(manName(c)), roff(c.Short), roff(c.UseLine()))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(c.Long))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.Use), roff(sub.Short))
			}
		}
	}
	b.WriteString(".SH OPTIONS\n")
	option := func(f *pflag.Flag) {
		name, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace("--"+f.Name+" "+name)), roff(usage))
	}
	c.LocalFlags().VisitAll(option)
	c.InheritedFlags().VisitAll(option)
	fmt.Fprintf(&b, ".SH EXIT STATUS\n%s\n", roff(exitStatus))
	fmt.Fprintf(&b, ".SH EXAMPLE\n.nf\n%s\n.fi\n", roff(c.Example))
	if c.HasParent() {
		b.WriteString(".SH SEE ALSO\n.BR keyhole (1)\n")
	}
	return b.String()
}

const exitStatus = "0 done; 1 failed; 2 wrong usage; 3 refused; 4 not reachable; 5 not found."

// roff escapes what troff would take for its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
