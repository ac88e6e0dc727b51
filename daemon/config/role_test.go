package config

import (
	"slices"
	"strings"
	"testing"
)

const porter = `
[[role]]
name = "porter"
actions = ["tunnel"]
types = ["http"]
`

func TestRoles(t *testing.T) {
	c := parse(t, porter+"[pairing]\nrole = 'porter'")
	if len(c.Roles) != 1 || c.Roles[0].Name != "porter" || !slices.Equal(c.Roles[0].Types, []string{"http"}) || c.Pairing.Role != "porter" {
		t.Errorf("roles: %+v", c.Roles)
	}
	if e := c.Roles[0].Fault("actions", 0, "is wrong"); e.Line != 4 || !strings.Contains(e.Error(), `role "porter": actions`) {
		t.Errorf("a fault: %v in line %d", e, e.Line)
	}
	for text, want := range map[string]string{
		"[[role]]\nactions = ['tunnel']":                              "role: name: has no value",
		"[[role]]\nname = 'Porter'":                                   "is no name of a role",
		"[[role]]\nname = 'owner'":                                    "is built in",
		porter + porter:                                               "used twice",
		"[[role]]\nname = 'x'\ncolour = 'red'":                        "colour",
		"[role]\nname = 'x'":                                          "[[role]]",
		"[[role]]\nname = 'x'\nactions = 'tunnel'":                    "actions",
		"[pairing]\nrole = 'porter'":                                  "porter",
		"[pairing]\nrole = 'support'":                                 "support",
		"[central]\nkey = 'vendor.pem'\nroles = ['porter']":           "is not a role of this device",
		porter + "[central]\nkey = 'vendor.pem'\nroles = ['portier']": "is not a role of this device",
	} {
		_, err := Parse([]byte(text), "k.toml", Overrides{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRolesReload(t *testing.T) {
	a, b := parse(t, porter), parse(t, strings.Replace(porter, `"http"`, `"http", "ssh"`, 1))
	if got := Compare(a, b); !slices.Equal(got.Live, []string{"role"}) || len(got.Restart) != 0 {
		t.Errorf("changes: %+v", got)
	}
	if got := Compare(a, parse(t, "\n\n"+porter)); !got.None() {
		t.Errorf("the same role some lines later: %+v", got)
	}
}
