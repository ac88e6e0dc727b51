package main

import "testing"

// What a device says of itself commands no terminal and turns no line round.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"3.1.4-rc1 Tür":                "3.1.4-rc1 Tür",
		"\x1b[2J\r\n":                  "?[2J??",
		"\u009b31m":                    "?31m",
		"a\u202bb\u2067c\u200ed\u2069": "a?b?c?d?",
		"a\u2028b":                     "a?b",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
