package pairing

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestCleanName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Alice's laptop", "Alice's laptop"},
		{"Zoe\u0308", "Zo\u00eb"}, // composed
		{"山田 太郎", "山田 太郎"},
		{strings.Repeat("ä", 64), strings.Repeat("ä", 64)},
		{strings.Repeat("ä", 65), ""},
		{strings.Repeat("x", 10_000), ""},
		{"", ""}, {" a", ""}, {"a ", ""}, {" ", ""},
		{"a\nb", ""}, {"a\x00b", ""}, {"a\u202eb", ""}, {"a\u2066b", ""}, {"a\u200bb", ""}, {"a\u00a0b", ""}, {"a\u2028b", ""},
		{"a\xffb", ""},
	} {
		got, err := CleanName(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("CleanName(%.20q): got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestShownName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"laptop", "laptop"},
		{"  a \n\u202e b  ", "a b"},
		{"Z" + strings.Repeat("\u0335", 40) + "algo", "Z\u0335algo"},
		{"\u0301x", "x"},
		{strings.Repeat("x", 33), strings.Repeat("x", 31) + "…"},
	} {
		if got := shownName(c.in); got != c.want {
			t.Errorf("shownName(%q): got %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("laptop", "Alice", times32(1), "AAAA")
	f.Add("Zoe\u0308", "\u202e", []byte{}, "")
	f.Add(strings.Repeat("\u1e9b\u0323", 64), "\xff", times32(0), strings.Repeat("x", 100))
	f.Fuzz(func(t *testing.T, name, user string, bytes []byte, exchange string) {
		r := BeginRequest{Name: name, User: user, Commitment: bytes}
		if err := r.clean(); err == nil {
			for _, s := range []string{r.Name, r.User} {
				n := utf8.RuneCountInString(s)
				if n > MaxNameRunes || !norm.NFC.IsNormalString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("passed: %q", s)
				}
				if again, err := CleanName(s); s != "" && (err != nil || again != s) {
					t.Fatalf("clean twice: %q, %q, %v", s, again, err)
				}
			}
			if r.Name == "" || len(r.Commitment) != CommitmentBytes {
				t.Fatalf("passed: %+v", r)
			}
		} else if bad := (*RequestError)(nil); !errors.As(err, &bad) {
			t.Fatalf("error without a field: %v", err)
		}
		if r := (RevealRequest{Exchange: exchange, Nonce: bytes}); r.check() == nil && (exchange == "" || len(bytes) != NonceBytes) {
			t.Fatalf("passed: %+v", r)
		}
		s := shownName(name)
		if utf8.RuneCountInString(s) > maxShownRunes || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || s != strings.TrimSpace(s) {
			t.Fatalf("shown: %q", s)
		}
	})
}
