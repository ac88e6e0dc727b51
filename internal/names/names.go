// Package names says what a person, a key or a device may be called. Names are
// shown on small displays and in logs and typed into commands, so pairing checks
// them when somebody asks and acl when it stores them, both here. It does not
// know which names are taken.
package names

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxRunes is the longest name, in characters (Unicode code points).
const MaxRunes = 64

// maxBytes is looked at before any work is done: 4 bytes are the longest code
// point, and composing can make two of one.
const maxBytes = 8 * MaxRunes

// An Error says what is wrong with a name.
type Error struct{ Why string }

func (e *Error) Error() string {
	return fmt.Sprintf("not a name: want 1 to %d printable characters: %s", MaxRunes, e.Why)
}

// Check returns name in composed form (Unicode NFC), or an *Error. Controls,
// format characters (those that turn the writing direction included) and every
// other invisible character are refused; of spaces only U+0020 is good, and not
// at an end.
func Check(name string) (string, error) {
	if len(name) > maxBytes {
		return "", &Error{"too long"}
	}
	if !utf8.ValidString(name) {
		return "", &Error{"not UTF-8"}
	}
	name = norm.NFC.String(name)
	for _, r := range name {
		// Of category C and of the spaces but U+0020 nothing is printable.
		if !unicode.IsPrint(r) {
			return "", &Error{fmt.Sprintf("contains the unprintable character %U", r)}
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return "", &Error{"empty"}
	case n > MaxRunes:
		return "", &Error{"too long"}
	case strings.TrimSpace(name) != name:
		return "", &Error{"begins or ends with a space"}
	case unicode.IsMark(first):
		return "", &Error{"begins with a combining mark"}
	}
	return name, nil
}

// Fold is what two names must differ in: letters that differ in case or in
// compatibility form only look alike.
func Fold(name string) string {
	return norm.NFKC.String(strings.ToLower(norm.NFKC.String(name)))
}
