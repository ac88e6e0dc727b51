package acl

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxNameRunes is the longest name of a user or a key, in characters.
const maxNameRunes = 64

// A NameError says what is wrong with a name.
type NameError struct{ Why string }

func (e *NameError) Error() string {
	return "not a name: want 1 to 64 printable characters: " + e.Why
}

// A NameTakenError means that another user has that name, or one that looks the
// same. Suggestion is free now.
type NameTakenError struct{ Name, Suggestion string }

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("the name %q is taken: try %q", e.Name, e.Suggestion)
}

// ErrNameTaken is what every *NameTakenError is, for errors.Is.
var ErrNameTaken = errors.New("the name is taken")

// Is makes errors.Is(err, ErrNameTaken) true.
func (e *NameTakenError) Is(target error) bool { return target == ErrNameTaken }

// CheckName returns name in Unicode normal form C, or a *NameError. Names are
// shown on displays and in logs and typed into commands, so control and format
// characters, those that turn the writing direction included, are refused.
func CheckName(name string) (string, error) {
	// Before any work: the longest good name has 4 bytes a character, and one
	// that normalisation shortens can have a few marks more.
	if len(name) > 8*maxNameRunes {
		return "", &NameError{"too long"}
	}
	if !utf8.ValidString(name) {
		return "", &NameError{"not UTF-8"}
	}
	name = norm.NFC.String(name)
	switch runes := utf8.RuneCountInString(name); {
	case runes == 0:
		return "", &NameError{"empty"}
	case runes > maxNameRunes:
		return "", &NameError{"too long"}
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return "", &NameError{"a space at an end"}
	}
	for _, r := range name {
		// IsPrint has no space but U+0020 and nothing of category C: no controls,
		// no bidirectional or zero-width characters, no private use.
		if !unicode.IsPrint(r) {
			return "", &NameError{fmt.Sprintf("U+%04X", r)}
		}
	}
	if first, _ := utf8.DecodeRuneInString(name); unicode.IsMark(first) {
		return "", &NameError{"begins with a combining mark"}
	}
	return name, nil
}

// checkUserName is CheckName and refuses what could be taken for another kind
// of principal.
func checkUserName(name string) (string, error) {
	name, err := CheckName(name)
	if err != nil {
		return "", err
	}
	folded := fold(name)
	if strings.HasPrefix(folded, "ca:") {
		return "", &NameError{"ca: is for users of a certificate authority"}
	}
	if isFingerprintPrefix(folded) {
		return "", &NameError{"it looks like a fingerprint"}
	}
	return name, nil
}

// minPrefix is how many digits of a fingerprint name a key.
const minPrefix = 8

func isFingerprintPrefix(s string) bool {
	if len(s) < minPrefix || len(s) > 64 {
		return false
	}
	_, err := hex.DecodeString(s[:len(s)&^1])
	return err == nil && isHexDigit(s[len(s)-1])
}

func isHexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// fold is what two names must differ in: case and compatibility forms look alike.
func fold(name string) string {
	return norm.NFKC.String(strings.ToLower(norm.NFKC.String(name)))
}

// suggest finds a free name like name.
func suggest(name string, taken func(string) bool) string {
	for i := 2; ; i++ {
		suffix := " " + strconv.Itoa(i)
		stem := []rune(name)
		if keep := maxNameRunes - len(suffix); len(stem) > keep {
			stem = stem[:keep]
		}
		s, err := checkUserName(strings.TrimRight(string(stem), " ") + suffix)
		if err == nil && !taken(s) {
			return s
		}
		if i > 2*MaxUsers {
			return ""
		}
	}
}
