package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholed/keyhole/internal/settings/settingstest"
)

const someVendorKey = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcUEV32HKYs/40S3W4YYNO1oZ/91ERq88yAODXHPp7xI6WkPLOyKrLdIMmG1UcmxZOBGwSOUHDQOs9f8VNfOoIg=="

// TestCentral: a vendor's keys as base64 or as files beside the configuration.
func TestCentral(t *testing.T) {
	c, err := Parse([]byte("role = [{name = 'technician'}]\n[central]\nkey = ['"+someVendorKey+"', 'vendor.pem']\nroles = ['viewer', 'technician']\nowner_may_refuse = false"), "/etc/keyhole/keyholed.toml", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := Central{Keys: []string{someVendorKey, "/etc/keyhole/vendor.pem"}, Roles: []string{"viewer", "technician"}, Poll: time.Hour}
	if diff := cmp.Diff(want, c.Central); diff != "" {
		t.Error(diff)
	}
	if !c.Central.Grants() || Default().Central.Grants() || !Default().Central.OwnerMayRefuse {
		t.Errorf("by default the vendor is believed, or the owner may not refuse: %+v", Default().Central)
	}
}

func TestCentralMistakes(t *testing.T) {
	const good = "[central]\nkey = '" + someVendorKey + "'\n"
	const listed = "[pairing]\nmodes = ['central']\n[central]\nlist_key = '" + someVendorKey + "'\n"
	settingstest.Mistakes(t, testFile, func(text string) error {
		_, err := Parse([]byte(text), testFile, Overrides{})
		return err
	}, []settingstest.Mistake{
		{"[central]\nkey = '" + someVendorKey + "'", 1, "central.roles: has no value"},
		{good + "roles = ['owner']", 3, `"owner" is never the vendor's to give`},
		{good + "roles = ['Viewer']", 3, "no name of a role"},
		{good + "roles = ['viewer', 'viewer']", 3, "listed twice"},
		{good + "roles = [" + strings.Repeat("'a',", 17) + "]", 3, "17 roles: at most 16"},
		{"[central]\nroles = ['viewer']\nkey = ['M~']", 3, "no public key"},
		{"[central]\nroles = ['viewer']\nkey = ['a.pem', 'a.pem']", 3, "listed twice"},
		{"[central]\nroles = ['viewer']\nkey = ['a', 'b', 'c', 'd', 'e']", 3, "5 keys: at most 4"},
		{"[central]\nroles = ['viewer']\nkey = ['']", 3, "empty"},
		{good + "roles = ['viewer']\npoll = '5s'", 4, "want 1m to 24h"},
		{good + "roles = ['viewer']\nlist = 'https://x/{id}'", 4, "fetched only with \"central\" among pairing.modes"},
		{"[pairing]\nmodes = ['button', 'central']\n" + good + "roles = ['viewer']", 3, "central.list: has no value"},
		{listed + "list = 'http://x/{id}'", 5, "does not begin with"},
		{listed + "list = 'https://u:p@x/'", 5, "has a user"},
		{listed + "list = 'x'", 5, "is no URL"},
		{"[pairing]\nmodes = ['central']\n[central]\nlist = 'https://x/'", 3, "central.list_key: has no value"},
	})
}
