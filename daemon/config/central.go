package config

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/settings"
)

// Central is what the device's vendor may say about who enters: grants that the
// basestation carries, and a list of people. The zero value is nothing, and then
// nothing that the vendor signs is looked at. All of it needs a restart.
type Central struct {
	// Keys are the public keys by which grants are believed, ECDSA P-256: the
	// base64 of the SubjectPublicKeyInfo, or the name of a PEM file, which may be
	// relative to the file's own directory. Up to 4; one string is allowed in place
	// of a list. Default none: no grants.
	Keys []string `toml:"key"`
	// Roles are what the vendor may make somebody, by grant or list. Never
	// "owner". Up to 16. Needed where there are keys or a list.
	Roles []string `toml:"roles"`
	// OwnerMayRefuse lets the owner switch off all that the vendor says. Default
	// true.
	OwnerMayRefuse bool `toml:"owner_may_refuse"`
	// List is where the list of people is fetched, with HTTPS; {id} in it stands for
	// the device's id. It needs "central" among pairing.modes, which needs it.
	// Default none.
	List string `toml:"list"`
	// ListKeys are the keys by which a list is believed, written as those of
	// grants. Default: the same keys.
	ListKeys []string `toml:"list_key"`
	// Roots is a PEM file of the authorities that certify the server of the list.
	// Default none: those of the system.
	Roots string `toml:"roots"`
	// Poll is how often the list is asked for, as "1h"; each time up to a fifth
	// earlier or later. 1m to 24h, default 1h. Who vanishes from the list is out
	// within that time.
	Poll time.Duration `toml:"poll"`
}

// Grants reports whether grants of the vendor count.
func (c Central) Grants() bool { return len(c.Keys) > 0 && len(c.Roles) > 0 }

// Wanted reports whether the vendor may say anything at all.
func (c Central) Wanted() bool { return c.Grants() || c.List != "" }

// defaultCentral is the section of a file that does not have it.
func defaultCentral() Central { return Central{OwnerMayRefuse: true, Poll: time.Hour} }

const (
	maxCentralKeys  = 4
	maxCentralRoles = 16
	maxURLBytes     = 1024
	minPoll         = time.Minute // each device asks that often: the vendor's server has all of them
	maxPoll         = 24 * time.Hour
)

// IsKeyFile reports whether a key of the vendor is written as the name of a file:
// the base64 of a SubjectPublicKeyInfo begins with M, as its first byte is 0x30,
// and has no dot.
func IsKeyFile(key string) bool { return !strings.HasPrefix(key, "M") || strings.Contains(key, ".") }

func (v *validator) central() {
	c := v.Central
	v.vendorKeys(c.Keys, "key")
	v.vendorKeys(c.ListKeys, "list_key")
	v.centralRoles()
	listed := slices.Contains(v.Pairing.Modes, modeCentral)
	switch {
	case c.List == "" && listed:
		v.fail("has no value, and pairing.modes has \"central\", which fetches it", `write list = "https://people.example.net/devices/{id}"`, "central", "list")
	case c.List != "" && !listed:
		v.fail(`is fetched only with "central" among pairing.modes`, `write modes = ["button", "central"], for example`, "central", "list")
	case c.List != "" && len(c.Keys) == 0 && len(c.ListKeys) == 0:
		v.fail("has no value, and no list is believed without a key", "", "central", "list_key")
	case c.List != "":
		if text := checkListURL(c.List); text != "" {
			v.fail(text, "", "central", "list")
		}
	}
	if c.Poll < minPoll || c.Poll > maxPoll {
		v.fail(fmt.Sprintf("%v is out of range: want 1m to 24h", c.Poll), "", "central", "poll")
	}
	if c.Roots != "" {
		if text := checkFile(c.Roots); text != "" {
			v.fail(text, "", "central", "roots")
		}
	}
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
		return checkFile(key)
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(key); err != nil {
		return settings.Quote(key) + ` is no public key: want the base64 of "openssl pkey -pubout -outform DER", or the name of a PEM file`
	}
	return ""
}

func (v *validator) centralRoles() {
	c := v.Central
	if len(c.Roles) == 0 && (len(c.Keys) > 0 || c.List != "") {
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
		case !shortName.MatchString(role):
			v.fail(settings.Quote(role)+" is no name of a role", "", at...)
		case !slices.Contains(v.roleNames(), role):
			v.fail(settings.Quote(role)+" is not a role of this device: want "+settings.OneOf(v.roleNames()), settings.Guess(role, v.roleNames()), at...)
		case slices.Contains(c.Roles[:i], role):
			v.fail(settings.Quote(role)+" is listed twice", "", at...)
		}
	}
}

func checkListURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || len(text) > maxURLBytes || u.Host == "" || u.Opaque != "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return settings.Quote(text) + ` is no URL: want one such as "https://people.example.net/devices/{id}"`
	case u.Scheme != "https":
		return settings.Quote(text) + ` does not begin with "https://"`
	case u.User != nil || u.Fragment != "":
		return settings.Quote(text) + " has a user or a fragment, which is not sent"
	}
	return ""
}
