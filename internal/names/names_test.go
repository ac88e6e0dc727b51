package names

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var bidi = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

func TestCheck(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Alice", "Alice"},
		{"A", "A"},
		{"Zoe\u0308", "Zo\u00eb"}, // composed
		{"李雷", "李雷"},
		{"Front door 2 🚪", "Front door 2 🚪"},
		{strings.Repeat("x", MaxRunes), strings.Repeat("x", MaxRunes)},
		{strings.Repeat("e\u0301", MaxRunes), strings.Repeat("\u00e9", MaxRunes)},
		{strings.Repeat("x", MaxRunes+1), ""},
		{strings.Repeat("x", 10_000), ""},
		{"", ""},
		{" Alice", ""},
		{"Alice ", ""},
		{"a\nb", ""},
		{"a\x00b", ""},
		{"a\x1b[31mb", ""},
		{"a\u00a0b", ""},
		{"a\u2028b", ""},
		{"a\u200db", ""},
		{"a\xffb", ""},
		{"\u0301a", ""},
	} {
		got, err := Check(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("Check(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
	for _, r := range bidi {
		if got, err := Check("a" + string(r) + "b"); err == nil {
			t.Errorf("Check with %U = %q, want an error", r, got)
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range [][2]string{{"Alice", "aLICE"}, {"ﬁ", "fi"}, {"Ａ", "a"}, {"É", "e\u0301"}} {
		if Fold(c[0]) != Fold(c[1]) {
			t.Errorf("%q and %q do not fold alike", c[0], c[1])
		}
	}
	if Fold("Alice") == Fold("Alicia") {
		t.Error("Alice and Alicia fold alike")
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"Alice", "Zoe\u0308", "a\u202eb", " a", "\xff", strings.Repeat("e\u0301", 70), "\u1100\u1161\u11a8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := Check(s)
		if err != nil {
			return
		}
		if again, err := Check(name); err != nil || again != name {
			t.Fatalf("Check(%q) = %q, again %q, %v", s, name, again, err)
		}
		if n := utf8.RuneCountInString(name); n < 1 || n > MaxRunes {
			t.Fatalf("%q has %d characters", name, n)
		}
		for _, r := range name {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Cf, r) {
				t.Fatalf("%q has %U", name, r)
			}
		}
		if Fold(Fold(name)) != Fold(name) {
			t.Fatalf("folding %q is not stable", name)
		}
	})
}

func TestNewKeepsToOneScript(t *testing.T) {
	for name, good := range map[string]bool{
		"Alice": true, "Zoë": true, "Алиса": true, "Alice Иванова": true, "田中さん": true, "Eva2": true, "김Kim": true, "Ελένη-2": true,
		"Аlice": false, "Aliсe": false, "Αlice": false, "Аλ": false, "田Ж": false,
	} {
		if _, err := New(name); (err == nil) != good {
			t.Errorf("New(%q): %v", name, err)
		}
		if _, err := Check(name); err != nil {
			t.Errorf("Check(%q): %v", name, err)
		}
	}
}
