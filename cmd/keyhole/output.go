package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/protocol/api"
)

// plain keeps what strangers wrote from steering the terminal.
func plain(s string) string { return api.Printable(s) }

// jsonFlag gives a command --json.
func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

// document prints v as one JSON document.
func (a *app) document(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// line prints v as one line of JSON.
func (a *app) line(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table prints rows in columns, with their head. An empty one prints nothing.
func (a *app) table(head []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	width := make([]int, len(head))
	all := append([][]string{head}, rows...)
	for r, row := range all {
		for i, cell := range row {
			all[r][i] = plain(cell)
			width[i] = max(width[i], utf8.RuneCountInString(all[r][i]))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var l strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&l, "%-*s  ", width[i], cell)
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func yes(b bool, s string) string {
	if b {
		return s
	}
	return ""
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
