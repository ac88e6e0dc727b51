package store

import (
	"errors"
	"strings"
	"testing"
)

func TestGrammar(t *testing.T) {
	long := strings.Repeat("a", MaxKeyBytes)
	for _, c := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"key", CheckKey,
			[]string{"a", "device/ab/cd", "a.b/c-d_e", long, "1/2/3/4/5/6/7/8"},
			[]string{"", "/", "a/", "/a", "a//b", "A", "a b", "a*", "ü", "a\x00", long + "a", "1/2/3/4/5/6/7/8/9"}},
		{"prefix", CheckPrefix,
			[]string{"", "a/", "device/ab/"},
			[]string{"a", "/", "a//", "/a/", "A/", long + "a/"}},
		{"subject", CheckSubject,
			[]string{"a", "event.abc.attached", "a-b.c_d"},
			[]string{"", ".", "a.", ".a", "a..b", "a.*", ">", "a/b", "A", "a b", long + "a"}},
		{"pattern", CheckPattern,
			[]string{"a", "*", ">", "a.*", "a.>", "*.b.*", "a.*.>"},
			[]string{"", "a*", "*a", ">.a", "a.>.b", "a.>>", "**", "a..>"}},
		{"name", CheckName,
			[]string{"push", "a-b_1", strings.Repeat("n", MaxNameBytes)},
			[]string{"", "a.b", "a/b", "A", strings.Repeat("n", MaxNameBytes+1)}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%s %q: got %v, want nil", c.name, s, err)
			}
		}
		for _, s := range c.bad {
			if err := c.check(s); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s %q: got %v, want ErrInvalid", c.name, s, err)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.b", "a", false},
		{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"*.b", "a.b", true},
		{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a.b.c", true}, {"a.>", "a", false}, {"b.>", "a.b", false},
		{"a.*.>", "a.b.c.d", true}, {"a.*.>", "a.b", false},
	} {
		if got := Matches(c.pattern, c.subject); got != c.want {
			t.Errorf("Matches(%q, %q): got %v, want %v", c.pattern, c.subject, got, c.want)
		}
	}
}

// FuzzGrammar holds that whatever passes is inside the limits and that a subject
// matches itself.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a.b", "a.>", "*", "", "a//b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckKey(s) == nil && (len(s) == 0 || len(s) > MaxKeyBytes || strings.Contains(s, "//")) {
			t.Errorf("key %q passed", s)
		}
		if CheckSubject(s) == nil {
			if CheckPattern(s) != nil || !Matches(s, s) || !Matches(">", s) {
				t.Errorf("subject %q is no pattern that matches itself", s)
			}
		}
	})
}
