package daemon

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

const byCode = "[pairing]\nmodes = [\"button\", \"code\"]\n" + simulated

// proveCode does the client's half with a code in hand.
func (p *peer) proveCode(user, typed string) (paired api.Paired, err error) {
	p.t.Helper()
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	salt := make([]byte, pairing.SaltBytes)
	if o := hello.Pairing.Code; o != nil {
		if salt, err = hex.DecodeString(o.Salt); err != nil || o.KiB != pairing.StretchKiB {
			p.t.Fatalf("offer %+v: %v", o, err)
		}
	}
	code, err := pairing.ParsePasscode(typed)
	if err != nil {
		return paired, err
	}
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return paired, err
	}
	asker, err := pairing.NewCodeAsker(p.key.Fingerprint(), p.Peer(), exporter, code, salt)
	if err != nil {
		return paired, err
	}
	var c api.CodeChallenge
	if err := p.tryCall("POST", "/v1/pair/code", api.CodeBegin{Share: hex.EncodeToString(asker.Share()), Name: user + "'s laptop", User: user}, &c); err != nil {
		return paired, err
	}
	share, _ := hex.DecodeString(c.Share)
	confirm, _ := hex.DecodeString(c.Confirm)
	proof, err := asker.Answer(pairing.CodeReply{Exchange: c.Exchange, Share: share, Confirm: confirm})
	if err != nil { // an honest client stops here; this one goes on
		proof = pairing.ConfirmRequest{Exchange: c.Exchange, Confirm: make([]byte, 32)}
	}
	err = p.tryCall("POST", "/v1/pair/code/confirm", api.CodeConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &paired)
	return paired, err
}

func TestPairingByCode(t *testing.T) {
	d := startDevice(t, byCode)
	alice := d.dial(t, newKey(t), session.PathTCP)
	_, closed := alice.proveCode("Alice", "1234 5678")
	wantCode(t, "closed", closed, api.CodeClosed)
	if err := d.Press(context.Background(), hal.ButtonPair); err != nil {
		t.Fatal(err)
	}
	var hello api.Hello
	alice.call("GET", "/v1/hello", nil, &hello)
	if len(hello.Pairing.Modes) != 1 || hello.Pairing.Modes[0] != pairing.ModeCode || hello.Pairing.Code == nil {
		t.Fatalf("offered %+v", hello.Pairing)
	}
	shown := d.window.State().Code.Grouped()
	wrong := "0000 0000"
	if shown == wrong {
		wrong = "0000 0001"
	}
	_, refused := alice.proveCode("Alice", wrong)
	wantCode(t, "a wrong code", refused, api.CodeClosed)
	if closed == nil || refused == nil || closed.Error() != refused.Error() {
		t.Errorf("two answers: %v, %v", closed, refused)
	}
	d.wantAudit(t, acl.WhatPairingFailed, string(pairing.CodeProof))
	status, err := json.Marshal(d.Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{shown, strings.ReplaceAll(shown, " ", "")} {
		if strings.Contains(string(status), secret) {
			t.Errorf("the status shows the code: %s", status)
		}
	}
	got, err := alice.proveCode("Alice", strings.ReplaceAll(shown, " ", "-"))
	if err != nil || got.Role != acl.RoleOwner || got.User != "Alice" {
		t.Fatalf("paired %+v, %v", got, err)
	}
	var me api.Me
	alice.call("GET", "/v1/me", nil, &me)
	if me.User != "Alice" || d.Status().Pairing.Open {
		t.Errorf("me %+v, window %+v", me, d.Status().Pairing)
	}
}

func TestCodeNeedsADisplay(t *testing.T) {
	d := startDevice(t, "[pairing]\nmodes = [\"button\", \"code\"]\n")
	p := d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	if len(hello.Pairing.Modes) != 1 || hello.Pairing.Modes[0] != pairing.ModeButton || hello.Pairing.Code != nil {
		t.Errorf("offered %+v", hello.Pairing)
	}
}

// The display shows one secret, while it is good, and nothing else changes what
// it looks like.
func TestDisplayShowsTheCode(t *testing.T) {
	d := startDevice(t, byCode)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	s := scene{device: "Front door", id: string(d.ID()), pairing: d.window.State(), others: []string{"Bob"}}
	with := s.picture()
	s.others = nil
	if !reflect.DeepEqual(with, s.picture()) {
		t.Error("a banner covers the code")
	}
	s.pairing.Code = pairing.Passcode{}
	if reflect.DeepEqual(with, s.picture()) {
		t.Error("the code is not shown")
	}
}
