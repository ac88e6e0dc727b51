package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/settings/settingstest"
)

const company = "[[authority]]\nname = 'company'\nca = 'company.pem'\n"

func TestAuthorities(t *testing.T) {
	c := parse(t, company+"revoked = '/lists/company.crl'\ndomains = ['Example.NET']\nrole = 'guest'\n"+
		"[[authority.user]]\nid = 'Alice@Example.NET'\nrole = 'admin'\n[[authority.user]]\nid = 'eve@example.net'\nrole = 'none'\n"+
		"[[authority]]\nname = 'club'\nca = '/club.pem'\n")
	a := c.Authorities[0]
	if a.CA != "/etc/keyhole/company.pem" || a.Revoked != "/lists/company.crl" || !slices.Equal(a.Domains, []string{"example.net"}) {
		t.Errorf("got %+v", a)
	}
	for id, want := range map[string]string{"alice@example.net": "admin", "eve@example.net": "", "bob@example.net": "guest"} {
		if got := a.RoleOf(id); got != want {
			t.Errorf("role of %s: %q, want %q", id, got, want)
		}
	}
	if got := c.Authorities[1].RoleOf("bob@example.org"); got != "" {
		t.Errorf("an identity alone gives the role %q", got)
	}
	if changes := Compare(parse(t, ""), c); !slices.Equal(changes.Live, []string{"authority"}) || len(changes.Restart) != 0 {
		t.Errorf("a reload would take over %v and leave %v", changes.Live, changes.Restart)
	}
	if changes := Compare(c, c); !changes.None() {
		t.Errorf("the same is another: %v", changes)
	}
}

func TestAuthorityMistakes(t *testing.T) {
	user := company + "[[authority.user]]\n"
	settingstest.Mistakes(t, testFile, func(text string) error {
		_, err := Parse([]byte(text), testFile, Overrides{})
		return err
	}, []settingstest.Mistake{
		{"[authority]\nname = 'a'", 1, "double brackets"},
		{"[[authority]]\nca = 'x'", 1, "name: has no value"},
		{"[[authority]]\nname = 'A'\nca = 'x'", 2, "want a-z"},
		{"[[authority]]\nname = 'a'", 1, "ca: has no value"},
		{"[[authority]]\nname = 'a'\nca = '/'", 3, "want one of its own"},
		{company + "rol = 'viewer'", 4, `did you mean "role"?`},
		{company + "role = 'owner'", 4, "for paired keys"},
		{company + "role = 'veiwer'", 4, `did you mean "viewer"?`},
		{company + "domains = ['example.net', 'exa mple']", 4, "is no domain"},
		{company + "domains = ['example.net', 'EXAMPLE.net']", 4, "listed twice"},
		{company + company, 5, "used twice"},
		{company + strings.ReplaceAll(company, "company", "club"), 4, "two authorities would vouch for the same people"},
		{company + "domains = ['example.net']\n" + strings.ReplaceAll(company, "company", "club") + "domains = ['example.net']", 8, "listed twice"},
		{user + "role = 'viewer'", 4, "id: has no value"},
		{user + "id = 'alice@example.net'", 4, "role: has no value"},
		{user + "id = 'alice@'\nrole = 'viewer'", 5, "names nobody"},
		{user + "id = 'alice@example.net'\nrole = 'owner'", 6, "for paired keys"},
		{user + "id = 'a@example.net'\nrole = 'none'\n[[authority.user]]\nid = 'A@example.net'\nrole = 'viewer'", 8, "listed twice"},
		{strings.Repeat(company, 9), 1, "at most 8"},
	})
}
