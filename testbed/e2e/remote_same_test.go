//go:build linux

package e2e

import (
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/session"
)

// Both homes have the addresses that most homes have, and where the board is at
// home, somebody else's board is in the other: the laptop finds its own, and the
// other one hears of nobody who could be let in.
//
//	192.168.1.10 board ─┐                               ┌─ 192.168.1.10 another board
//	                    router ─┬─ basestation ─ router ┤
//	192.168.1.20 phone ─┘                               └─ 192.168.1.11 laptop
func TestRemoteSameAddresses(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	station := newBase(t, host{internet.Base})
	alice := newPerson(t, host{internet.Base}, "Alice")
	const inside = "192.168.1.0/24"
	home := newRemoteHome(t, internet, testnet.PortRestricted, boardKey, station, alice)
	if home.Inside.String() != inside {
		t.Fatalf("the first home is %s", home.Inside)
	}
	away := internet.HomeIn(t, testnet.PortRestricted, inside)
	other := newRemoteBoard(t, host{away.Host}, "Somebody else's", station)
	laptop := alice.at(host{away.Join(t, 11)})
	me, err := laptop.how(boardKey)
	if err != nil {
		t.Fatal(err)
	}
	if me.User != "Alice" || me.Via != string(session.ViaPunched) {
		t.Errorf("reached as %+v, want punched", me)
	}
	if s := other.status(t); s.Sessions != 0 || strings.Contains(other.daemon.err.String(), "introduced") {
		t.Errorf("the other board has %d sessions and says %s", s.Sessions, other.daemon.err)
	}
}
