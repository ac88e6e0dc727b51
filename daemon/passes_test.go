package daemon

import (
	"bytes"
	"testing"

	"github.com/keyholed/keyhole/protocol/attach"
)

func TestPasses(t *testing.T) {
	key := newKey(t)
	var p passes
	mint := func(epoch, client uint64) []byte {
		t.Helper()
		pass, err := p.pass(key, epoch, fingerprint(client))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := attach.CheckPresencePass(pass, key.ID(), fingerprint(client)); err != nil || got != epoch {
			t.Fatalf("epoch %d, %v; want %d", got, err, epoch)
		}
		return pass
	}
	first := mint(7, 1)
	if !bytes.Equal(mint(7, 1), first) {
		t.Error("the same pass was signed twice")
	}
	mint(7, 2)
	mint(8, 1) // somebody was revoked
	mint(7, 1) // a request that is under way
	if now := mint(8, 1); bytes.Equal(now, first) || !bytes.Equal(mint(8, 1), now) {
		t.Error("a pass of another epoch")
	}
	for client := range uint64(3 * maxPasses) {
		mint(8, client)
	}
	if len(p.made) > maxPasses {
		t.Errorf("%d are kept", len(p.made))
	}
}
