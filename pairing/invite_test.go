package pairing

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A book is an InviteBook in memory.
type book struct {
	mu      sync.Mutex
	open    map[InviteName]Verifier
	entered []Request
	refuse  error
}

func (b *book) Invite(n InviteName) (Verifier, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.open[n]
	return v, ok
}

func (b *book) Redeem(_ context.Context, n InviteName, r Request) (Granted, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.open[n]; !open {
		return Granted{}, ErrRefused
	}
	if b.refuse != nil {
		return Granted{}, b.refuse
	}
	delete(b.open, n)
	b.entered = append(b.entered, r)
	return Granted{User: r.User, Role: "viewer"}, nil
}

func bookOf(tokens ...Token) *book {
	b := &book{open: map[InviteName]Verifier{}}
	for _, t := range tokens {
		v := t.Verifier(deviceKey.ID())
		b.open[v.Name()] = v
	}
	return b
}

// proves is what a client with a token sends on its session with a device.
func (p *peer) proves(t testing.TB, device identity.Fingerprint, token Token) InviteRequest {
	t.Helper()
	name, proof, err := ProveInvite(p.caller.Fingerprint, device, p.caller.Exporter, token)
	if err != nil {
		t.Fatal(err)
	}
	return InviteRequest{Name: "phone", User: "Bob", Invite: name, Proof: proof}
}

func (p *peer) redeem(b *book, r InviteRequest) (Granted, error) {
	return Redeem(context.Background(), deviceKey, b, p.caller, r)
}

// The figures that docs/protocol.md shows.
func TestInviteGolden(t *testing.T) {
	var device, client identity.Fingerprint
	copy(device[:], hexed("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	copy(client[:], hexed("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"))
	exporter := hexed("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f")
	v := testToken().Verifier(device.ID())
	pass, err := testToken().Pass(device.ID(), client, counted32(0x60))
	if err != nil {
		t.Fatal(err)
	}
	name, proof, err := ProveInvite(client, device, exporter, testToken())
	if err != nil || name != v.Name() {
		t.Fatalf("%s %s %v", name, v.Name(), err)
	}
	for what, c := range map[string]struct{ got, want string }{
		"P":     {hex.EncodeToString(v[:]), "ed9105a86fe6ec621939614df552eec0a1e585c9e50803009e91caf01f4b5946"},
		"name":  {name.String(), "04e459198e0cb5ea"},
		"pass":  {hex.EncodeToString(pass), "0104e459198e0cb5ea2fa5e898d1a2f522ce8c068bbe53963f4a774bab7635c9f99e289d7bff75188db808461e7ccc6c1d074eec2251d37de2356c76053d12b1dc19f0f892527f090d"},
		"proof": {hex.EncodeToString(proof), "3c71222f5497c1d11374bde3c68705d2d01437602d80bc288e499080b507b85eef933a8288e5d0b9f5e29511cd6ddc7d7e86e3b5ce7ca599f8f3a30b30787c09"},
	} {
		if c.got != c.want {
			t.Errorf("%s = %s, want %s", what, c.got, c.want)
		}
	}
}

func TestAnInviteIsGoodOnce(t *testing.T) {
	token, bob := NewToken(), newPeer(1)
	b := bookOf(token, NewToken())
	g, err := bob.redeem(b, bob.proves(t, deviceKey, token))
	wantErr(t, "first", err, nil)
	if g.User != "Bob" || len(b.entered) != 1 || b.entered[0].Mode != ModeInvite || b.entered[0].Fingerprint != bob.caller.Fingerprint {
		t.Fatalf("%+v, %+v", g, b.entered)
	}
	_, err = bob.redeem(b, bob.proves(t, deviceKey, token))
	wantErr(t, "again", err, ErrProof)
	carol := newPeer(2)
	_, err = carol.redeem(b, carol.proves(t, deviceKey, token))
	wantErr(t, "by another", err, ErrProof)
}

func TestATokenUsedAtOnceLetsOneIn(t *testing.T) {
	token := NewToken()
	b := bookOf(token)
	var running sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for n := range byte(16) {
		p := newPeer(n + 1)
		r := p.proves(t, deviceKey, token)
		running.Go(func() {
			if _, err := p.redeem(b, r); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			} else if !errors.Is(err, ErrProof) && !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if in != 1 || len(b.entered) != 1 {
		t.Fatalf("%d were let in, %d entered", in, len(b.entered))
	}
}

// A refused grant (a name that is taken) leaves the invite for another attempt.
func TestARefusedGrantKeepsTheInvite(t *testing.T) {
	token, bob := NewToken(), newPeer(1)
	b := bookOf(token)
	b.refuse = errors.New("the name is taken")
	_, err := bob.redeem(b, bob.proves(t, deviceKey, token))
	wantErr(t, "taken", err, b.refuse)
	b.refuse = nil
	_, err = bob.redeem(b, bob.proves(t, deviceKey, token))
	wantErr(t, "another name", err, nil)
}

// Whoever hears, changes, keeps or passes on a proof gains nothing by it, and every
// refusal reads alike.
func TestInviteProofsFitOneSession(t *testing.T) {
	token, other := NewToken(), NewToken()
	bob, mallory := newPeer(1), newPeer(2)
	later := newPeer(1)
	later.caller.Exporter[1] = 9 // another session of the same client
	genuine := bob.proves(t, deviceKey, token)
	changed := genuine
	changed.Proof = bytes.Clone(genuine.Proof)
	changed.Proof[7] ^= 1
	wrongName := genuine
	wrongName.Invite = other.Verifier(deviceKey.ID()).Name()
	unknown := genuine
	unknown.Invite = InviteName{1}
	for name, c := range map[string]struct {
		who *peer
		r   InviteRequest
	}{
		"a false device passes it on":         {mallory, bob.proves(t, fingerprint(0xee), token)},
		"a false device, its own fingerprint": {mallory, genuine},
		"replayed on a later session":         {later, genuine},
		"changed":                             {bob, changed},
		"of another invite":                   {bob, wrongName},
		"of an unknown invite":                {bob, unknown},
		"with another token":                  {mallory, mallory.proves(t, deviceKey, NewToken())},
		"of another device":                   {bob, bob.proves(t, fingerprint(0xee), token)},
	} {
		b := bookOf(token, other)
		_, err := c.who.redeem(b, c.r)
		var refused *Error
		if !errors.Is(err, ErrProof) || !errors.As(err, &refused) || refused.Error() != ErrRefused.Error() {
			t.Errorf("%s: %v", name, err)
		}
		if len(b.entered) != 0 || len(b.open) != 2 {
			t.Errorf("%s: entered %v", name, b.entered)
		}
	}
}

func TestMalformedInviteRequests(t *testing.T) {
	token, bob := NewToken(), newPeer(1)
	for field, change := range map[string]func(*InviteRequest){
		"name":  func(r *InviteRequest) { r.Name = "" },
		"user":  func(r *InviteRequest) { r.User = "a\nb" },
		"proof": func(r *InviteRequest) { r.Proof = r.Proof[1:] },
	} {
		r := bob.proves(t, deviceKey, token)
		change(&r)
		_, err := bob.redeem(bookOf(token), r)
		var wrong *RequestError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A pass is for one client and one handshake, and is checked by the device alone.
func TestPassesFitOneIntroduction(t *testing.T) {
	token := NewToken()
	device, client, handshake := deviceKey.ID(), fingerprint(1), counted32(1)
	v := token.Verifier(device)
	pass, err := token.Pass(device, client, handshake)
	if err != nil || len(pass) != PassBytes {
		t.Fatalf("%d bytes, %v", len(pass), err)
	}
	if n, ok := PassName(pass); !ok || n != v.Name() || !v.CheckPass(pass, client, handshake) {
		t.Fatal("a good pass is refused")
	}
	for i := range pass {
		bad := bytes.Clone(pass)
		bad[i] ^= 0x10
		if v.CheckPass(bad, client, handshake) {
			t.Errorf("byte %d can be changed", i)
		}
	}
	elsewhere, _ := token.Pass(fingerprint(0xee).ID(), client, handshake)
	_, proof, _ := ProveInvite(client, deviceKey, handshake[:], token) // the other signature of the same key
	proofAsPass := append(bytes.Clone(pass[:1+InviteNameBytes]), proof...)
	switch {
	case v.CheckPass(pass, fingerprint(2), handshake):
		t.Error("good for another client")
	case v.CheckPass(pass, client, counted32(2)):
		t.Error("good for another handshake")
	case v.CheckPass(elsewhere, client, handshake):
		t.Error("made for another device")
	case NewToken().Verifier(device).CheckPass(pass, client, handshake):
		t.Error("good for another invite")
	case v.CheckPass(proofAsPass, client, handshake):
		t.Error("a proof is taken for a pass")
	case v.CheckPass(pass[:len(pass)-1], client, handshake), v.CheckPass(append(bytes.Clone(pass), 0), client, handshake), v.CheckPass(nil, client, handshake):
		t.Error("of odd length")
	}
	if bytes.Contains(pass, token.secret[:4]) {
		t.Error("it shows the token")
	}
}

func FuzzPass(f *testing.F) {
	token := testToken()
	v := token.Verifier(deviceKey.ID())
	good, err := token.Pass(deviceKey.ID(), fingerprint(1), counted32(0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{passInvite})
	f.Fuzz(func(t *testing.T, pass []byte) {
		if v.CheckPass(pass, fingerprint(1), counted32(0)) != bytes.Equal(pass, good) {
			t.Fatalf("%x", pass)
		}
	})
}
