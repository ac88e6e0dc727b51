package authority

import (
	"strings"
	"testing"
	"time"
)

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"alice@example.net":                       "alice@example.net",
		"Alice.B+c@Example.NET":                   "alice.b+c@example.net",
		"https://ID.example.net/Alice":            "https://id.example.net/Alice",
		"SPIFFE://example.net/ns/a/sa/b":          "spiffe://example.net/ns/a/sa/b",
		"https://id.example.net":                  "https://id.example.net",
		"Alice Example":                           "Alice Example",
		"Zoë":                                     "Zo\u00eb",
		"alice@":                                  "",
		"@example.net":                            "",
		"a@b@example.net":                         "",
		"a..b@example.net":                        "",
		"alice@example.net.":                      "",
		"alice@-example.net":                      "",
		"alice@192.0.2.7":                         "",
		"alice@[192.0.2.7]":                       "",
		"al ice@example.net":                      "",
		"\"alice\"@example.net":                   "",
		"alice@bücher.example":                    "",
		"https://a@id.example.net/":               "",
		"https://id.example.net:443/":             "",
		"https://id.example.net//a":               "",
		"https://id.example.net/../a":             "",
		"https://id.example.net/%61":              "",
		"https://id.example.net/a?b":              "",
		"https://id.example.net/a#b":              "",
		"https://192.0.2.7/a":                     "",
		"https:///a":                              "",
		"1https://id.example.net/":                "",
		"urn:alice":                               "",
		"a/b":                                     "",
		"Alice\u202e":                             "",
		" Alice":                                  "",
		"":                                        "",
		strings.Repeat("a", 65) + "@b.c":          "",
		"a@" + strings.Repeat("b", 64):            "",
		"https://b.c/" + strings.Repeat("a", 128): "",
	} {
		if got, kind, err := Canonical(text); got != want || (err == nil) != (want != "") || LooksCertified(text) != (want != "" && kind != KindCommon) {
			t.Errorf("%q: %q (%v), %v, want %q", text, got, kind, err, want)
		}
	}
}

func TestCheckDomains(t *testing.T) {
	lower, _, _, err := CheckDomains([][]string{{"Example.NET", "example.org"}, nil})
	if err != nil || lower[0][0] != "example.net" || lower[1] != nil {
		t.Errorf("%v, %v", lower, err)
	}
	for want, all := range map[string][][]string{
		"two authorities": {nil, nil},
		"listed twice":    {{"example.net"}, {"EXAMPLE.net"}},
		"is no domain":    {{"192.0.2.7"}},
		"at most 32":      {make([]string, 33)},
	} {
		if _, _, _, err := CheckDomains(all); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", all, err, want)
		}
	}
}

// The rules of time, over every state of clock and floor.
func TestRefuses(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	p := Person{From: at(10), Until: at(20)}
	for _, c := range []struct {
		now, floor int
		known      bool
		want       error
	}{
		{15, 0, true, nil},
		{15, 0, false, ErrClock},
		{10, 0, true, nil},
		{9, 0, true, ErrNotYet},
		{20, 0, true, ErrEnded},
		{15, 19, true, nil},
		{15, 20, true, ErrEnded},
		{15, 20, false, ErrEnded},
		{9, 25, true, ErrEnded},
	} {
		clock := Clock{Now: at(c.now), Known: c.known}
		if c.floor > 0 {
			clock.Floor = at(c.floor)
		}
		if got := p.Refuses(clock); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
