package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Everybody who may enter is listed, with keys or without, and so is who stays out.
func TestUserRows(t *testing.T) {
	keys := []api.UserKey{{Name: "laptop"}, {Name: "phone"}}
	got := userRows(api.Users{
		Users: []api.User{
			{Name: "Alice", Role: "owner", Keys: keys, Online: true},
			{Name: "Bob", Role: "viewer", Keys: keys[:1], Central: true, Refused: "ended"},
			{Name: "carol@example.net", Role: "admin", Kind: "authority"},
		},
		Blocked: []api.Blocked{{Name: "Mallory", Keys: make([]identity.Fingerprint, 2)}, {Name: "central:x"}},
	})
	none := identity.Fingerprint{}.Short()
	want := []string{
		"Alice|owner|connected|laptop|" + none, "Alice|owner|connected|phone|" + none, "Bob|viewer (central) (ended)|-|laptop|" + none,
		"carol@example.net|admin|-|by certificate|-", "Mallory|stays out|-|2 keys|-", "central:x|stays out|-|by name|-",
	}
	var rows []string
	for _, r := range got {
		rows = append(rows, strings.Join(r, "|"))
	}
	if !slices.Equal(rows, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}
