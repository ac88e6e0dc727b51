//go:build linux

package e2e

import (
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

// Somebody who has never been near the device becomes its user with a link, from
// behind another router: punched where that goes, relayed where not. The link lets
// nobody else in, and a stranger without one is not even introduced.
//
//	board ─ router ─┬─ basestation
//	                └─ router ─ Bob's laptop, Mallory's
func TestRemoteInvite(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	station := newBase(t, host{internet.Base})
	alice := newPerson(t, host{internet.Base}, "Alice")
	home := newRemoteHome(t, internet, testnet.PortRestricted, boardKey, station, alice)
	for _, c := range []struct {
		kind testnet.NAT
		name string
	}{{testnet.PortRestricted, "Bob"}, {testnet.Symmetric, "Carol"}, {testnet.UDPBlocked, "Dave"}} {
		step(t, c.name+" behind "+string(c.kind), func(t *testing.T) {
			away := host{internet.Home(t, c.kind).Host}
			invited, mallory := newPerson(t, away, c.name), newPerson(t, away, "Mallory")
			var made api.NewInvite
			home.owner.ask(t, &made, "invite", boardKey, "--role", "viewer", "--for", c.name, "--json")
			forged := made.Link[:50] + map[bool]string{true: "b", false: "a"}[made.Link[50] == 'a'] + made.Link[51:]
			if r := finish(t, mallory.command("pair", forged)); r.code != 2 {
				t.Errorf("a changed link: exit code %d\n%s", r.code, r.err)
			}
			out := invited.keyhole(t, "pair", made.Link, "--as", "Whoever")
			contains(t, "keyhole pair LINK", out, "You are "+c.name+", viewer.")
			me, err := invited.how(boardKey)
			if err != nil || me.User != c.name || me.Via == "direct" && c.kind != testnet.UDPBlocked {
				t.Errorf("%+v, %v", me, err)
			}
			t.Logf("%s reaches the board by %s %s", c.name, me.Via, me.Path)
			if err := invited.connect(t, boardKey, "web").fetch("/"); err != nil {
				t.Error(err)
			}
			// The link is used up: its pass opens nothing any more.
			said := mallory.refused(t, exitNotReachable, "pair", made.Link)
			contains(t, "keyhole pair with a used link", said, "does not introduce us")
		})
	}
	users := home.owner.keyhole(t, "users", boardKey)
	if strings.Contains(users, "Mallory") || strings.Contains(users, "Whoever") {
		t.Errorf("users:\n%s", users)
	}
}
