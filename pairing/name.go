package pairing

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyholed/keyhole/internal/names"
)

// CleanName returns a name of a user or a key in composed form (NFC), or says
// why it cannot be one: 1 to MaxNameRunes printable characters, no space at
// either end. Control and bidirectional characters, line separators and all other invisible
// ones are not printable; of spaces only U+0020 is.
func CleanName(s string) (string, error) {
	return names.New(s)
}

// maxShownRunes is what a small display and one line of a status can carry.
const maxShownRunes = 32

// shownName is what State shows of a stranger's name: one line of printable
// characters, single spaces, one combining mark per character (more of them
// paint over the lines above and below), not longer than maxShownRunes.
func shownName(s string) string {
	var b strings.Builder
	runes, marks, space := 0, 0, true
	for _, r := range s {
		mark := unicode.Is(unicode.M, r)
		switch {
		case r == ' ' && space, !unicode.IsPrint(r), r == utf8.RuneError:
			continue
		case mark && (space || marks > 0):
			continue
		case runes == maxShownRunes-1:
			return strings.TrimRight(b.String(), " ") + "…"
		}
		space, marks = r == ' ', 0
		if mark {
			marks = 1
		}
		b.WriteRune(r)
		runes++
	}
	return strings.TrimRight(b.String(), " ")
}
