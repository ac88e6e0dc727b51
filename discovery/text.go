package discovery

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Bounds on what strangers may make us keep.
const (
	maxModes      = 8  // pairing modes of one device; we know five
	maxModeLength = 16 // longest word for one
	maxTXTStrings = 32 // strings looked at in a TXT record
)

// cleanText keeps what a person can read of a text: valid UTF-8, printable, no
// control, formatting or bidirectional characters, no run of spaces, at most
// maxText bytes.
func cleanText(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s[:min(len(s), 4*maxText)])
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// cleanModes keeps words of lower-case letters, sorted as they came.
func cleanModes(modes []string) []string {
	var clean []string
	for _, m := range modes {
		ok := m != "" && len(m) <= maxModeLength && strings.Trim(m, "abcdefghijklmnopqrstuvwxyz") == ""
		if ok && !slices.Contains(clean, m) && len(clean) < maxModes {
			clean = append(clean, m)
		}
	}
	return clean
}

// parseText reads a device's TXT record. ok is false for a version or id that
// is not ours. Keys are compared without regard to case, the first of a kind
// counts, unknown ones are for later versions (RFC 6763 §6.4).
func parseText(txt []string) (f Found, ok bool) {
	values := map[string]string{}
	for _, s := range txt[:min(len(txt), maxTXTStrings)] {
		key, value, _ := strings.Cut(s, "=")
		key = strings.ToLower(key)
		switch key {
		case "v", "id", "product", "pair":
			if _, seen := values[key]; !seen {
				values[key] = value
			}
		}
	}
	id, err := identity.ParseID(values["id"])
	if err != nil || values["v"] != "1" {
		return Found{}, false
	}
	f.ID = id
	f.Product = cleanText(values["product"])
	pair := values["pair"]
	f.Pair = cleanModes(strings.Split(pair[:min(len(pair), 255)], ","))
	return f, true
}

// nameOf takes the device's name out of an escaped instance label.
func nameOf(label string, id identity.ID) string {
	name := cleanText(unescape(label))
	return strings.TrimSuffix(name, "-"+string(id)[:idSuffix])
}

// unescape undoes the presentation format of RFC 1035 §5.1: \X and \DDD.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) && digits(s[i+1:i+4]) {
			b.WriteByte(byte(int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0')))
			i += 3
			continue
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }
