package acl

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/internal/names"
)

// A NameError says what is wrong with a name.
type NameError = names.Error

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

// CheckName returns a name of a user or a key in composed form, or a *NameError.
func CheckName(name string) (string, error) { return names.Check(name) }

// checkUserName is CheckName that also refuses what could be taken for another kind
// of principal.
func checkUserName(name string) (string, error) {
	name, err := names.New(name)
	if err != nil {
		return "", err
	}
	folded := names.Fold(name)
	for _, p := range blockPrefixes {
		if strings.HasPrefix(folded, p.prefix) {
			return "", &NameError{Why: p.prefix + " is for those who are no users of the list"}
		}
	}
	if isFingerprintPrefix(folded) {
		return "", &NameError{Why: "it looks like a fingerprint"}
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

// suggest finds a free name like name.
func suggest(name string, taken func(string) bool) string {
	for i := 2; ; i++ {
		suffix := " " + strconv.Itoa(i)
		stem := []rune(name)
		if keep := names.MaxRunes - len(suffix); len(stem) > keep {
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
