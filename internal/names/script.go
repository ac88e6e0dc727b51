package names

import (
	"slices"
	"strings"
	"unicode"
)

// New is Check for a name that somebody chooses now. It also refuses words of letters
// from several scripts, in which a Cyrillic letter passes for a Latin one; what people
// write together is good (Unicode Technical Standard 39 §5.2, "highly restrictive").
// Names that are stored already are not asked for it.
func New(name string) (string, error) {
	name, err := Check(name)
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(name) {
		if mixed(word) {
			return "", &Error{"a word of it mixes letters of several scripts"}
		}
	}
	return name, nil
}

// together are scripts that one word may have letters of.
var together = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

func mixed(word string) bool {
	var scripts []string
	for _, r := range word {
		if s := script(r); s != "" && !slices.Contains(scripts, s) {
			scripts = append(scripts, s)
		}
	}
	return len(scripts) > 1 && !slices.ContainsFunc(together, func(good []string) bool {
		return !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(good, s) })
	})
}

// script names the script of a letter, "" for what all scripts share.
func script(r rune) string {
	switch {
	case r < unicode.MaxASCII:
		if unicode.IsLetter(r) {
			return "Latin"
		}
		return ""
	case unicode.In(r, unicode.Common, unicode.Inherited):
		return ""
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return ""
}
