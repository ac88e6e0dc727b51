package config

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/internal/settings"
)

// An Authority is a certificate authority whose word is taken for who somebody is.
// It gives no right: that is what a role does. Authorities are taken over by a
// reload, which also reads their files again.
type Authority struct {
	// Name is what logs and the status call it: [a-z][a-z0-9-]{0,31}, unique.
	// Required.
	Name string `toml:"name"`
	// CA is a PEM file of the authority's certificates: its root, and intermediate
	// ones that clients need not send. A relative path is meant from the file's own
	// directory. Required.
	CA string `toml:"ca"`
	// Revoked is a file of revocation lists, PEM or DER. With it, nobody comes in
	// by an issuer that has no list in it, or an old one. Default none.
	Revoked string `toml:"revoked"`
	// Domains are those of the people it vouches for (what stands behind the @ of
	// an e-mail address, the host of a URI), up to 32. None: everybody whose domain
	// no other authority lists; one authority at most may do so. Default none.
	Domains []string `toml:"domains"`
	// Role is what everybody has whom it vouches for and to whom nobody gave a
	// role: "viewer", "guest", "admin" or one of [[role]]; "none" is no role and no right. Default
	// "none".
	Role string `toml:"role"`
	// Users are people to whom the configuration gives a role. What the owner gives
	// or takes counts before it.
	Users []AuthorityUser `toml:"user"`
}

// An AuthorityUser is one person whom an authority vouches for.
type AuthorityUser struct {
	// ID is an e-mail address, a URI or a common name, as in the certificate.
	// Required.
	ID string `toml:"id"`
	// Role is "viewer", "guest", "admin", one of [[role]], or "none". Required.
	Role string `toml:"role"`
}

// NoRole is written where somebody shall have no role.
const NoRole = "none"

// maxAuthorityUsers is what one file of 256 KiB has room for with ease.
const maxAuthorityUsers = 256

// Equal reports whether two are configured alike; what is in their files is not
// looked at.
func (a Authority) Equal(o Authority) bool {
	return a.Name == o.Name && a.CA == o.CA && a.Revoked == o.Revoked && a.Role == o.Role &&
		slices.Equal(a.Domains, o.Domains) && slices.Equal(a.Users, o.Users)
}

// RoleOf returns what the configuration gives to a canonical identity: a role, or
// "" for none.
func (a Authority) RoleOf(id string) string {
	role := a.Role
	for _, u := range a.Users {
		if u.ID == id {
			role = u.Role
		}
	}
	if role == NoRole {
		return ""
	}
	return role
}

// AuthorityError makes an error about the i-th authority of the file and one of
// its keys ("ca", "revoked").
func (c *Config) AuthorityError(i int, key string, err error) error {
	path := []string{"authority", strconv.Itoa(i), key}
	e := &Error{File: c.File, Key: settings.Dotted(path), Text: err.Error()}
	if c.doc != nil {
		e = c.doc.Fault(err.Error(), "", path...)
	}
	e.Err = err
	return e
}

func (d *decoder) authorities(into *[]Authority, value any, path []string) {
	settings.Sections(&d.Decoder, into, value, path, authority.MaxAuthorities, func([]string, map[string]any) Authority {
		return Authority{Role: NoRole}
	})
}

func (d *decoder) authorityUsers(into *[]AuthorityUser, value any, path []string) {
	settings.Sections(&d.Decoder, into, value, path, maxAuthorityUsers, func([]string, map[string]any) AuthorityUser {
		return AuthorityUser{}
	})
}

// authorityPaths are the files of the authorities, to be made absolute.
func (c *Config) authorityPaths() (paths []*string) {
	for i := range c.Authorities {
		paths = append(paths, &c.Authorities[i].CA, &c.Authorities[i].Revoked)
	}
	return paths
}

func (v *validator) authorities() {
	seen := map[string]bool{}
	domains := make([][]string, len(v.Authorities))
	for i, a := range v.Authorities {
		at := func(key ...string) []string { return append([]string{"authority", strconv.Itoa(i)}, key...) }
		domains[i] = a.Domains
		switch {
		case a.Name == "":
			v.fail("has no value", `write name = "company", for example`, at("name")...)
		case !shortName.MatchString(a.Name):
			v.fail("want a-z, then up to 31 of a-z 0-9 -", "", at("name")...)
		case seen[a.Name]:
			v.fail(settings.Quote(a.Name)+" is used twice", "", at("name")...)
		}
		seen[a.Name] = true
		if a.CA == "" {
			v.fail("has no value", "write the path of a PEM file with the authority's certificate", at("ca")...)
		}
		for key, path := range map[string]string{"ca": a.CA, "revoked": a.Revoked} {
			if text := checkFile(path); path != "" && text != "" {
				v.fail(text, "", at(key)...)
			}
		}
		v.authorityRole(a.Role, at("role")...)
		v.authorityUsers(a, at)
	}
	lower, i, j, err := authority.CheckDomains(domains)
	switch {
	case err == nil:
		for i := range v.Authorities {
			v.Authorities[i].Domains = lower[i]
		}
	case j < 0:
		v.fail(err.Error(), "", "authority", strconv.Itoa(i), "domains")
	default:
		v.fail(err.Error(), "", "authority", strconv.Itoa(i), "domains", strconv.Itoa(j))
	}
}

func (v *validator) authorityUsers(a Authority, at func(key ...string) []string) {
	for j, u := range a.Users {
		n := strconv.Itoa(j)
		id, _, err := authority.Canonical(u.ID)
		if a.Users[j].ID = id; u.ID == "" {
			v.fail("has no value", `write id = "alice@example.net", for example`, at("user", n, "id")...)
		} else if err != nil {
			v.fail(fmt.Sprintf("%s names nobody: %v", settings.Quote(u.ID), err), "", at("user", n, "id")...)
		} else if slices.ContainsFunc(a.Users[:j], func(o AuthorityUser) bool { return o.ID == id }) {
			v.fail(settings.Quote(u.ID)+" is listed twice", "", at("user", n, "id")...)
		}
		if u.Role == "" {
			v.fail("has no value", `write role = "viewer", for example`, at("user", n, "role")...)
		} else {
			v.authorityRole(u.Role, at("user", n, "role")...)
		}
	}
}

func (v *validator) authorityRole(role string, at ...string) {
	if role == NoRole {
		return
	}
	if role == "owner" {
		v.fail(`"owner" is for paired keys: want `+settings.OneOf(append(slices.Clone(v.givenRoles().Allowed), NoRole)), "", at...)
	} else if text, hint := v.givenRoles().Check(role); text != "" {
		v.fail(text, hint, at...)
	}
}
