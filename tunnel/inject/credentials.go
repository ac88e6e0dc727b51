package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/internal/durable"
)

const (
	// MaxFile bounds a file of credentials: two lines and some comments.
	MaxFile = 4 << 10
	// maxUser and maxPassword are beyond every camera and every web server
	// (RFC 7617 has none; Apache's htpasswd ends at 255).
	maxUser     = 255
	maxPassword = 512
)

// A Secret is a password. No way of printing, logging or encoding it shows it,
// nor does printing a struct that has one inside: it is kept behind a pointer.
// The zero Secret is the empty password.
type Secret struct{ text *string }

// NewSecret keeps a password.
func NewSecret(text string) Secret { return Secret{&text} }

const hidden = "[secret]"

// Format is part of fmt.Formatter.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String says that there is a secret.
func (Secret) String() string { return hidden }

// MarshalText is for every encoder.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue is part of slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Credentials are what a service wants to know.
type Credentials struct {
	User     string // no colon, no control character
	Password Secret
}

// Load reads credentials from a regular file that nobody but its owner may read
// and that belongs to one of the given users. The errors have nothing of the
// file's content in them.
func Load(path string, users ...int) (Credentials, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Credentials{}, err
	}
	if !info.Mode().IsRegular() { // a pipe would wait for whoever writes into it
		return Credentials{}, fmt.Errorf("%s is not a regular file", path)
	}
	if owner, ok := ownerOf(info); ok && !slices.Contains(users, owner) {
		// He could put another password there, or another file of ours.
		return Credentials{}, fmt.Errorf("%s belongs to user %d: want a file of the daemon's own user or of root", path, owner)
	}
	data, err := durable.ReadPrivate(path, MaxFile)
	if err != nil {
		return Credentials{}, err
	}
	c, err := Parse(data)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Owner is the user to whom a file or directory belongs, where that can be told.
func Owner(path string) (uid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return ownerOf(info)
}

// Parse takes one line
//
//	user:password
//
// or two, in any order, values in quotes or not:
//
//	user = "admin"
//	password = "…"
//
// Empty lines and lines that begin with # are skipped.
func Parse(data []byte) (Credentials, error) {
	var c Credentials
	var one, user, password bool
	for i, line := range strings.Split(string(bytes.TrimPrefix(data, []byte("\ufeff"))), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		wrong := func(text string) (Credentials, error) { return Credentials{}, fmt.Errorf("line %d: %s", i+1, text) }
		key, value, isKey := cutKey(line)
		switch {
		case one:
			return wrong("more than one user")
		case isKey && key == "user" && !user:
			c.User, user = value, true
		case isKey && key == "password" && !password:
			c.Password, password = NewSecret(value), true
		case isKey || user || password:
			return wrong("want user and password once each")
		default:
			name, secret, found := strings.Cut(line, ":")
			if !found {
				return wrong("want user:password, or two lines: user = … and password = …")
			}
			c, one = Credentials{name, NewSecret(secret)}, true
		}
	}
	if !one && !(user && password) {
		return Credentials{}, errors.New("want user:password, or two lines: user = … and password = …")
	}
	return c, c.check()
}

// cutKey takes `user = value` and `password = value` apart.
func cutKey(line string) (key, value string, ok bool) {
	key, value, found := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !found || key != "user" && key != "password" {
		return "", "", false
	}
	if unquoted, err := strconv.Unquote(value); err == nil && value[0] == '"' {
		value = unquoted
	} else if n := len(value); n >= 2 && value[0] == '\'' && value[n-1] == '\'' {
		value = value[1 : n-1]
	}
	return key, value, true
}

func (c Credentials) check() error {
	odd := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	}
	password := c.Password.reveal()
	switch {
	case c.User == "" || len(c.User) > maxUser:
		return fmt.Errorf("the user name has %d bytes: want 1 to %d", len(c.User), maxUser)
	case strings.Contains(c.User, ":"):
		return errors.New("a user name cannot have a colon in it (RFC 7617)")
	case len(password) > maxPassword:
		return fmt.Errorf("the password has %d bytes: want at most %d", len(password), maxPassword)
	case odd(c.User) || odd(password):
		return errors.New("a control character in user name or password")
	}
	return nil
}
