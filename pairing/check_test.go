package pairing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

func times32(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// golden was made by testdata/button.py.
var golden = []struct {
	device, client, exporter, clientNonce, deviceNonce byte
	commitment                                         string
	check                                              Check
}{
	{0xdd, 0xcc, 0xee, 0x01, 0x02, "73b2acbb2e49420a4005bffe13a7ad3f5e4da749c4ff3cb848eab3608bfbf7ea", "955213"},
	{0xdd, 0xcc, 0xee, 0x01, 0x0c, "73b2acbb2e49420a4005bffe13a7ad3f5e4da749c4ff3cb848eab3608bfbf7ea", "080699"},
	{0, 0, 0, 0, 0, "e42dac7e55c5a3ada3082b854909578bc48ddf986de858a412151204b429bc93", "549313"},
}

func TestGoldenVectors(t *testing.T) {
	for _, g := range golden {
		b := binding{identity.Fingerprint(times32(g.device)), identity.Fingerprint(times32(g.client)), times32(g.exporter)}
		nc, nd := times32(g.clientNonce), times32(g.deviceNonce)
		c := b.commitment(nc)
		if got := hex.EncodeToString(c[:]); got != g.commitment {
			t.Errorf("%+v: commitment %s", g, got)
		}
		if got := b.check(nc, nd); got != g.check {
			t.Errorf("%+v: check %s", g, got)
		}
		if got := checkByHand(times32(g.device), times32(g.client), times32(g.exporter), nc, nd); got != g.check {
			t.Errorf("%+v: check by hand %s", g, got)
		}
		if !b.opens(c[:], nc) || b.opens(c[:], nd) && !bytes.Equal(nc, nd) || b.opens(nil, nc) {
			t.Errorf("%+v: a commitment opens by its nonce and by no other", g)
		}
	}
}

// checkByHand is the package comment again, with other means.
func checkByHand(fields ...[]byte) Check {
	m := "keyhole/1 pair button check\x00"
	for _, f := range fields {
		m += "\x00\x20" + string(f)
	}
	h := sha256.Sum256([]byte(m))
	n := new(big.Int).SetBytes(h[:8])
	return Check(fmt.Sprintf("%06s", n.Mod(n, big.NewInt(1e6)).String()))
}

func TestForeignClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("no python3 here: the golden vectors, which it made, are what is checked")
		return
	}
	p := newPeer(7)
	a, err := NewAsker(p.caller.Fingerprint, deviceKey, p.caller.Exporter)
	if err != nil {
		t.Fatal(err)
	}
	commitment, nonce := a.Commitment(), times32(9)
	check, reveal, err := a.Answer(BeginReply{Exchange: "x", Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"testdata/button.py"}
	for _, f := range [][]byte{deviceKey[:], p.caller.Fingerprint[:], p.caller.Exporter, reveal.Nonce, nonce} {
		args = append(args, hex.EncodeToString(f))
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), hex.EncodeToString(commitment)+" "+string(check); got != want {
		t.Errorf("python: got %s, want %s", got, want)
	}
}

// TestManInTheMiddle holds both ends' views against each other over many
// exchanges in which everything is equal but the session. Equal digits are
// expected 0.02 times; four or more are seen once in a hundred million runs.
func TestManInTheMiddle(t *testing.T) {
	equal, low := 0, 0
	const exchanges = 20_000
	for i := range exchanges {
		near, far := times32(1), times32(2)
		a, err := NewAsker(fingerprint(1), deviceKey, near)
		if err != nil {
			t.Fatal(err)
		}
		nonce := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		got, reveal, err := a.Answer(BeginReply{Exchange: "x", Nonce: nonce[:]})
		if err != nil {
			t.Fatal(err)
		}
		there := binding{deviceKey, fingerprint(1), far}
		if there.opens(a.Commitment(), reveal.Nonce) {
			t.Fatal("a commitment of one session opens on another")
		}
		if there.check(reveal.Nonce, nonce[:]) == got {
			equal++
		}
		if got < "500000" {
			low++
		}
	}
	if equal > 3 {
		t.Errorf("%d of %d exchanges had equal digits on two sessions", equal, exchanges)
	}
	// Standard deviation 71; 500 is seven of them.
	if low < exchanges/2-500 || low > exchanges/2+500 {
		t.Errorf("%d of %d digits are below 500000", low, exchanges)
	}
}

// Each thing that is bound changes commitment and digits.
func TestEverythingIsBound(t *testing.T) {
	base := binding{fingerprint(1), fingerprint(2), times32(3)}
	for name, b := range map[string]binding{
		"device":   {fingerprint(9), fingerprint(2), times32(3)},
		"client":   {fingerprint(1), fingerprint(9), times32(3)},
		"swapped":  {fingerprint(2), fingerprint(1), times32(3)},
		"exporter": {fingerprint(1), fingerprint(2), times32(9)},
	} {
		if b.hash(checkDomain, times32(4), times32(5)) == base.hash(checkDomain, times32(4), times32(5)) ||
			b.commitment(times32(4)) == base.commitment(times32(4)) {
			t.Errorf("%s is not bound", name)
		}
	}
	if base.hash(checkDomain, times32(4), times32(5)) == base.hash(checkDomain, times32(5), times32(4)) {
		t.Error("the nonces may be swapped")
	}
}

func TestAskerAnswersOnce(t *testing.T) {
	a, err := NewAsker(fingerprint(1), deviceKey, times32(3))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []BeginReply{{}, {Exchange: "x"}, {Nonce: times32(1)}, {Exchange: strings.Repeat("x", 65), Nonce: times32(1)}, {Exchange: "x", Nonce: times32(1)[1:]}} {
		if _, r, err := a.Answer(bad); err == nil || r.Nonce != nil {
			t.Errorf("reply %+v: got %v and revealed %x", bad, err, r.Nonce)
		}
	}
	if _, _, err := a.Answer(BeginReply{Exchange: "x", Nonce: times32(1)}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Answer(BeginReply{Exchange: "x", Nonce: times32(2)}); !errors.Is(err, ErrAskerUsed) {
		t.Fatalf("second answer: got %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", a, a, a, a); strings.Contains(s, "nonce") || strings.Contains(s, "0x") {
		t.Errorf("printed: %s", s)
	}
	for name, f := range map[string]func() (*Asker, error){
		"no key":         func() (*Asker, error) { return NewAsker(identity.Fingerprint{}, deviceKey, times32(1)) },
		"no device":      func() (*Asker, error) { return NewAsker(deviceKey, identity.Fingerprint{}, times32(1)) },
		"short exporter": func() (*Asker, error) { return NewAsker(deviceKey, deviceKey, times32(1)[1:]) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if g := Check("012345").Grouped(); g != "012 345" {
		t.Errorf("grouped: %s", g)
	}
}
