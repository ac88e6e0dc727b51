package config

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/internal/settings"
)

// Support is help by a hotline: a press of the support button shows a code that lets
// one in, for half an hour.
type Support struct {
	// Enabled is whether the button does anything. Default true. Reload: switching it off
	// ends what is.
	Enabled bool `toml:"enabled" reload:"live"`
	// Role is what a hotline may do. Whatever it says, a hotline never manages users, never
	// resets and never sends firmware, and uses services only once the person at the device
	// has allowed that. Default "support": the device, its events and its audit log. Reload.
	Role string `toml:"role" reload:"live"`
	// Key is the fingerprint of the vendor's support key, 64 hexadecimal digits as
	// docs/support.md makes it: a hotline must prove that key beside the code. Default
	// none. Restart.
	Key string `toml:"key"`
	// Digits is the length of the code: 6, or 4 where there is a key. Default 6. Restart.
	Digits int `toml:"digits"`
}

// Codes of either length.
const (
	supportDigits      = 6
	supportDigitsShort = 4 // one of ten thousand, so the key has to be proven as well
)

func defaultSupport() Support {
	return Support{Enabled: true, Role: "support", Digits: supportDigits}
}

func (v *validator) support() {
	s := v.Support
	if s.Key != "" {
		if b, err := hex.DecodeString(s.Key); err != nil || len(b) != 32 || s.Key != strings.ToLower(s.Key) {
			v.fail("not a fingerprint: want 64 hexadecimal digits in lower case", "", "support", "key")
		}
	}
	switch {
	case s.Digits == supportDigits:
	case s.Digits == supportDigitsShort && s.Key != "":
	case s.Digits == supportDigitsShort:
		v.fail("4 digits need a key: whoever may try 30 codes a day must prove something else", "", "support", "digits")
	default:
		v.fail("want 6, or 4 with a key", "", "support", "digits")
	}
	if s.Role == "owner" || s.Role == "admin" {
		v.fail("a hotline is neither owner nor admin", "", "support", "role")
	} else if text, hint := (settings.Choice{Allowed: slices.DeleteFunc(v.roleNames(), func(n string) bool { return n == "admin" })}).Check(s.Role); text != "" {
		v.fail(text, hint, "support", "role")
	}
}
