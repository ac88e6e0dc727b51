package daemon

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

const byInvite = "[pairing]\nmodes = [\"button\", \"invite\"]\n"

// invites makes an invite and returns its token's link.
func (p *peer) invites(role string) (api.NewInvite, pairing.Token) {
	p.t.Helper()
	var made api.NewInvite
	p.call("POST", "/v1/invites", api.InviteRequest{Role: role}, &made)
	link, err := pairing.ParseLink(made.Link)
	if err != nil || link.Kind != pairing.LinkInvite || link.Device != p.Peer().ID() {
		p.t.Fatalf("%v: %+v", err, made.Invite)
	}
	return made, link.Token
}

// redemption is what a peer sends with a token on this session.
func (p *peer) redemption(token pairing.Token, user string) api.InviteProof {
	p.t.Helper()
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		p.t.Fatal(err)
	}
	name, proof, err := pairing.ProveInvite(p.key.Fingerprint(), p.Peer(), exporter, token)
	if err != nil {
		p.t.Fatal(err)
	}
	return api.InviteProof{Invite: name.String(), Proof: hex.EncodeToString(proof), Name: "phone", User: user}
}

func (p *peer) modes() []string {
	p.t.Helper()
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	return hello.Pairing.Modes
}

func TestInvitesOnTheWire(t *testing.T) {
	d := startDevice(t, byInvite+simulated)
	owner := d.owner(t)
	var running sync.WaitGroup
	results := make([]error, 8)
	_, token := owner.invites(acl.RoleViewer)
	ready := make(chan struct{})
	for n := range results { // one token, at once, from different clients over TCP and QUIC
		p := d.dial(t, newKey(t), []session.Path{session.PathTCP, session.PathQUIC}[n%2])
		if offered := slices.Contains(p.modes(), pairing.ModeInvite); offered != (n%2 == 0) {
			t.Errorf("client %d is offered invite: %v", n, offered)
		}
		body := p.redemption(token, "Guest "+string(rune('A'+n)))
		running.Go(func() {
			<-ready
			results[n] = p.tryCall("POST", "/v1/pair/invite", body, nil)
		})
	}
	close(ready)
	running.Wait()
	in := 0
	for _, err := range results {
		if err == nil {
			in++
		} else {
			wantCode(t, "too late", err, api.CodeClosed)
		}
	}
	if in != 1 || len(d.store.Users()) != 2 {
		t.Fatalf("%d were let in, %d users", in, len(d.store.Users()))
	}
	if p := d.dial(t, newKey(t), session.PathTCP); len(p.modes()) != 0 {
		t.Errorf("offered when the invite was used up: %v", p.modes())
	}
}

// Every no has one text and one length, whatever the reason.
func TestInviteAnswersAreAlike(t *testing.T) {
	d := startDevice(t, byInvite+simulated)
	owner := d.owner(t)
	_, open := owner.invites(acl.RoleViewer)
	withdrawn, gone := owner.invites(acl.RoleViewer)
	owner.call("DELETE", "/v1/invites/"+withdrawn.Name, nil, nil)
	_, used := owner.invites(acl.RoleViewer)
	bob := d.dial(t, newKey(t), session.PathTCP)
	genuine := bob.redemption(used, "Bob")
	bob.call("POST", "/v1/pair/invite", genuine, nil)
	mallory := d.dial(t, newKey(t), session.PathTCP)
	wrong := mallory.redemption(open, "Mallory")
	wrong.Proof = hex.EncodeToString(make([]byte, pairing.ProofBytes))
	stolen := bob.redemption(open, "Mallory") // heard on another session, by another key
	var first []byte
	for name, body := range map[string]api.InviteProof{
		"unknown": mallory.redemption(pairing.NewToken(), "Mallory"), "withdrawn": mallory.redemption(gone, "Mallory"),
		"used": mallory.redemption(used, "Mallory"), "wrong proof": wrong, "passed on": stolen, "replayed": genuine,
	} {
		r, answer := mallory.ask("POST", "/v1/pair/invite", body)
		if first == nil {
			first = answer
		}
		if r.StatusCode != 403 || !bytes.Equal(answer, first) {
			t.Errorf("%s: %d %s, elsewhere %s", name, r.StatusCode, answer, first)
		}
	}
	wantCode(t, "malformed", mallory.tryCall("POST", "/v1/pair/invite", api.InviteProof{Invite: "x"}, nil), api.CodeMalformed)
	wantCode(t, "who is in", bob.tryCall("POST", "/v1/pair/invite", bob.redemption(open, "Bob"), nil), api.CodeConflict)
	if n := len(d.store.Users()); n != 2 {
		t.Errorf("%d users", n)
	}
}

// An invite is void the moment its maker is put out, and his own device's with it.
func TestInvitesOfWhoIsRevoked(t *testing.T) {
	d := startDevice(t, byInvite+simulated)
	owner := d.owner(t)
	bob := d.member(t, "Bob", acl.RoleAdmin, session.PathTCP)
	made, token := bob.invites(acl.RoleViewer)
	var mine api.NewInvite
	bob.call("POST", "/v1/me/invites", api.OwnInviteRequest{}, &mine)
	var list api.Invites
	owner.call("GET", "/v1/invites", nil, &list)
	if len(list.Invites) != 2 || list.Invites[0].By != "Bob" {
		t.Fatalf("%+v", list)
	}
	alices, _ := owner.invites(acl.RoleViewer)
	wantCode(t, "an admin withdraws an owner's", bob.tryCall("DELETE", "/v1/invites/"+alices.Name, nil, nil), api.CodeForbidden)
	wantCode(t, "as his own", bob.tryCall("DELETE", "/v1/me/invites/"+alices.Name, nil, nil), api.CodeNotFound)
	owner.call("DELETE", "/v1/users/Bob", nil, nil)
	carol := d.dial(t, newKey(t), session.PathTCP)
	wantCode(t, "his invite", carol.tryCall("POST", "/v1/pair/invite", carol.redemption(token, "Carol"), nil), api.CodeClosed)
	owner.call("GET", "/v1/invites", nil, &list)
	if slices.ContainsFunc(list.Invites, func(i api.Invite) bool { return i.Name == made.Name || i.Name == mine.Name }) {
		t.Errorf("%+v", list)
	}
}

// Only who proves an invite is introduced: not with another's pass, nor with one of
// another handshake, nor once the invite is gone.
func TestPassesAtTheDoor(t *testing.T) {
	d := startDevice(t, byInvite+simulated)
	owner := d.owner(t)
	made, token := owner.invites(acl.RoleViewer)
	bob, mallory := newKey(t).Fingerprint(), newKey(t).Fingerprint()
	var hash, other attach.Hash
	_, _ = rand.Read(hash[:])
	pass, err := token.Pass(d.ID(), bob, hash)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(f identity.Fingerprint, h attach.Hash, pass []byte) bool {
		in := attach.NewIntroduction(1, h, &attach.Introduce{Pass: pass}, netip.AddrPort{})
		_, ok := d.mayAskByInvite(&in, f)
		return ok
	}
	if !asks(bob, hash, pass) {
		t.Fatal("who holds an invite may not ask")
	}
	competes := func(pass []byte) tunnel.Place {
		in := attach.NewIntroduction(1, hash, &attach.Introduce{Pass: pass}, netip.AddrPort{})
		return d.competes(&in, bob)
	}
	unknown, _ := pairing.NewToken().Pass(d.ID(), bob, hash)
	if got := competes(pass); got != tunnel.PlaceKnown {
		t.Errorf("who was invited waits among %v", got)
	}
	if got := competes(unknown); got != tunnel.PlaceStranger {
		t.Errorf("with an invite of his own making he waits among %v", got)
	}
	changed := bytes.Clone(pass)
	changed[40] ^= 1
	switch {
	case asks(mallory, hash, pass):
		t.Error("another client may use the pass")
	case asks(bob, other, pass):
		t.Error("another handshake may")
	case asks(bob, hash, changed), asks(bob, hash, unknown), asks(bob, hash, nil), asks(bob, hash, []byte{1}):
		t.Error("a pass that is none may")
	}
	owner.call("DELETE", "/v1/invites/"+made.Name, nil, nil)
	if asks(bob, hash, pass) {
		t.Error("the invite is withdrawn and opens the door")
	}
}

// What has ended is taken off the disk without anybody asking.
func TestInvitesAreEnded(t *testing.T) {
	d := startDevice(t, byInvite+simulated)
	owner := d.owner(t)
	verifier := pairing.NewToken().Verifier(d.ID())
	u, _ := d.store.UserOf(owner.key.Fingerprint())
	_, err := d.store.Invite(acl.Invite{Name: verifier.Name().String(), Verifier: verifier[:], Role: acl.RoleViewer}, time.Second,
		acl.By{User: u.Name, Fingerprint: owner.key.Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "a line tells that it has ended", func() error {
		entries, err := d.store.Audit(0, 0)
		if err == nil && !slices.ContainsFunc(entries, func(e acl.Entry) bool { return e.What == acl.WhatInviteEnded && len(e.Ended) == 1 }) {
			err = errors.New("no such line")
		}
		return err
	})
	if d.store.HasInvites() {
		t.Error("it is good")
	}
}

func FuzzFailures(f *testing.F) {
	f.Add([]byte("192.0.2.1/32 3\n2001:db8::/64 14\n- 1\n"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseFailures(data)
		if err == nil && len(list) > pairing.MaxDelaySources {
			t.Fatalf("%d sources", len(list))
		}
	})
}
