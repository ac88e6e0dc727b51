package config

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/internal/settings"
)

// Central is what the device's vendor may say about who enters: grants that the
// basestation carries. The zero value is nothing, and then
// nothing that the vendor signs is looked at. All of it needs a restart.
type Central struct {
	// Keys are the public keys by which grants are believed, ECDSA P-256: the
	// base64 of the SubjectPublicKeyInfo, or the name of a PEM file, which may be
	// relative to the file's own directory. Up to 4; one string is allowed in place
	// of a list. Default none: no grants.
	Keys []string `toml:"key"`
	// Roles are what the vendor may make somebody, by a grant. Never "owner".
	// Up to 16. Needed where there are keys.
	Roles []string `toml:"roles"`
	// OwnerMayRefuse lets the owner switch off all that the vendor says. Default
	// true.
	OwnerMayRefuse bool `toml:"owner_may_refuse"`
}

// Grants reports whether grants of the vendor count.
func (c Central) Grants() bool { return len(c.Keys) > 0 && len(c.Roles) > 0 }

// Wanted reports whether the vendor may say anything at all.
func (c Central) Wanted() bool { return c.Grants() }

// defaultCentral is the section of a file that does not have it.
func defaultCentral() Central { return Central{OwnerMayRefuse: true} }

const (
	maxCentralKeys  = 4
	maxCentralRoles = 16
)

// IsKeyFile reports whether a key of the vendor is written as the name of a file:
// the base64 of a SubjectPublicKeyInfo begins with M, as its first byte is 0x30,
// and has no dot.
func IsKeyFile(key string) bool { return !strings.HasPrefix(key, "M") || strings.Contains(key, ".") }

func (v *validator) central() {
	v.vendorKeys(v.Central.Keys, "key")
	v.centralRoles()
}

func (v *validator) vendorKeys(keys []string, name string) {
	if n := len(keys); n > maxCentralKeys {
		v.fail(fmt.Sprintf("%d keys: at most %d are allowed", n, maxCentralKeys), "", "central", name)
	}
	for i, key := range keys {
		at := []string{"central", name, strconv.Itoa(i)}
		if slices.Contains(keys[:i], key) {
			v.fail(settings.Quote(key)+" is listed twice", "", at...)
		} else if text := checkVendorKey(key); text != "" {
			v.fail(text, "", at...)
		}
	}
}

func checkVendorKey(key string) string {
	if IsKeyFile(key) {
		return strings.ReplaceAll(checkPath(key), "directory", "file")
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(key); err != nil {
		return settings.Quote(key) + ` is no public key: want the base64 of "openssl pkey -pubout -outform DER", or the name of a PEM file`
	}
	return ""
}

var centralRole = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func (v *validator) centralRoles() {
	c := v.Central
	if len(c.Roles) == 0 && len(c.Keys) > 0 {
		v.fail("has no value: the vendor could make nobody anything", `write roles = ["viewer"], for example`, "central", "roles")
	}
	if n := len(c.Roles); n > maxCentralRoles {
		v.fail(fmt.Sprintf("%d roles: at most %d are allowed", n, maxCentralRoles), "", "central", "roles")
	}
	for i, role := range c.Roles {
		at := []string{"central", "roles", strconv.Itoa(i)}
		switch {
		case role == "owner":
			v.fail(`"owner" is never the vendor's to give`, "", at...)
		case !centralRole.MatchString(role):
			v.fail(settings.Quote(role)+" is no name of a role", "", at...)
		case !slices.Contains(v.roleNames(), role):
			v.fail(settings.Quote(role)+" is not a role of this device: want "+settings.OneOf(v.roleNames()), settings.Guess(role, v.roleNames()), at...)
		case slices.Contains(c.Roles[:i], role):
			v.fail(settings.Quote(role)+" is listed twice", "", at...)
		}
	}
}
