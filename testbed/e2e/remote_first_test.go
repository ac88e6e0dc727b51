//go:build linux

package e2e

import (
	"regexp"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// How long a command takes whose laptop is 100 ms away from everything: three round
// trips to the basestation, two once node and cookie are remembered; then two to the
// device until a punched session stands, and one for the question. The same is
// counted in virtual time in protocol/reach.
//
//	board ─ router ─┬─ basestation
//	                └─ 50 ms each way ─ router ─ laptop
func TestRemoteFirstContact(t *testing.T) {
	testnet.Root(t)
	t.Parallel() // it mostly waits
	internet := testnet.NewInternet(t)
	alice := newPerson(t, host{internet.Base}, "Alice")
	home := newRemoteHome(t, internet, testnet.PortRestricted, boardKey, newBase(t, host{internet.Base}), alice)
	away := internet.Home(t, testnet.PortRestricted)
	internet.Line(t, away, testnet.Line{Delay: 50 * time.Millisecond})
	away.Move(t, home.owner.Namespace, 10)
	for i := range 3 {
		began := time.Now()
		me, err := home.owner.how(boardKey)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("command %d: %v by %s %s", i+1, time.Since(began).Round(time.Millisecond), me.Via, me.Path)
	}
	tree := finish(t, home.owner.command("doctor"))
	for _, line := range regexp.MustCompile(`(?m)^.*(asked over|set up in).*$`).FindAllString(tree.out, -1) {
		t.Log(line)
	}
}
