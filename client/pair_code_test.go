package client

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"testing"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// withCode gives the device a display and a window that shows a code.
func (d *testDevice) withCode() *testDevice {
	d.t.Helper()
	var err error
	d.window, err = pairing.New(pairing.Config{Modes: []string{"button", "code"}, Display: true, Device: d.key.Fingerprint(), Granter: d, Counter: new(tries)})
	if err != nil {
		d.t.Fatal(err)
	}
	return d
}

func (d *testDevice) offer(s *session.Session) api.Offer {
	o := api.Offer{Modes: d.window.Offers(d.caller(s))}
	o.Open = len(o.Modes) > 0
	if salt := d.window.Salt(d.caller(s)); salt != nil {
		o.Code = &api.CodeOffer{Salt: hex.EncodeToString(salt), KiB: pairing.StretchKiB, Passes: pairing.StretchPasses, Lanes: pairing.StretchLanes}
	}
	return o
}

func (d *testDevice) codeBegin(w http.ResponseWriter, r *http.Request, s *session.Session) {
	var body api.CodeBegin
	if err := api.DecodeRequest(w, r, &body); err != nil {
		d.t.Error(err)
	}
	share, _ := hex.DecodeString(body.Share)
	reply, err := d.window.BeginCode(r.Context(), d.caller(s), pairing.CodeRequest{Name: body.Name, User: body.User, Share: share})
	if err != nil {
		api.WriteProblem(w, api.Problemf(api.CodeClosed, "%v", err))
		return
	}
	api.WriteJSON(w, api.CodeChallenge{Exchange: reply.Exchange, Share: hex.EncodeToString(reply.Share), Confirm: hex.EncodeToString(reply.Confirm)})
}

func (d *testDevice) codeConfirm(w http.ResponseWriter, r *http.Request, s *session.Session) {
	var body api.CodeConfirm
	if err := api.DecodeRequest(w, r, &body); err != nil {
		d.t.Error(err)
	}
	confirm, _ := hex.DecodeString(body.Confirm)
	granted, err := d.window.ConfirmCode(r.Context(), d.caller(s), pairing.ConfirmRequest{Exchange: body.Exchange, Confirm: confirm})
	if err != nil {
		api.WriteProblem(w, api.Problemf(api.CodeClosed, "%v", err))
		return
	}
	api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: d.description()})
}

func TestPairByCode(t *testing.T) {
	d := newTestDevice(t).withCode()
	h := newHome(t)
	typed := func(s string) PairOptions {
		return PairOptions{User: "Alice", Name: "laptop", Dial: near, Code: func(context.Context, Wanted) (string, error) { return s, nil }}
	}
	d.window.Press()
	if _, err := h.Pair(t.Context(), d.address, PairOptions{User: "Alice", Dial: near}); !errors.Is(err, ErrCodeNeeded) {
		t.Errorf("with nobody to ask: %v", err)
	}
	if _, err := h.Pair(t.Context(), d.address, typed("123")); !errors.Is(err, ErrNotCode) {
		t.Errorf("three digits: %v", err)
	}
	wrong := "00000000"
	if d.window.State().Code.Grouped() == "0000 0000" {
		wrong = "00000001"
	}
	if _, err := h.Pair(t.Context(), d.address, typed(wrong)); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a wrong code: %v", err)
	}
	// The person takes so long that the window is another by then.
	slow := typed("")
	slow.Code = func(context.Context, Wanted) (string, error) {
		d.window.Press()
		d.window.Press()
		return d.window.State().Code.Grouped(), nil
	}
	p, err := h.Pair(t.Context(), d.address, slow)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Device.Checked || p.Device.User != "Alice" || d.userOf(h.Key().Fingerprint()) != "Alice" {
		t.Errorf("paired as %+v", p)
	}
	stored, err := h.Devices()
	if err != nil || len(stored) != 1 || !stored[0].Checked {
		t.Errorf("the book has %+v, %v", stored, err)
	}
}

func TestStretchingIsNotTheDevicesChoice(t *testing.T) {
	good := api.CodeOffer{Salt: "000102030405060708090a0b0c0d0e0f", KiB: pairing.StretchKiB, Passes: pairing.StretchPasses, Lanes: pairing.StretchLanes}
	if _, err := saltOf(true, &good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*api.CodeOffer){
		"memory": func(o *api.CodeOffer) { o.KiB = 1 << 30 }, "little memory": func(o *api.CodeOffer) { o.KiB = 8 }, "passes": func(o *api.CodeOffer) { o.Passes = 1 << 20 },
		"lanes": func(o *api.CodeOffer) { o.Lanes = 0 }, "salt": func(o *api.CodeOffer) { o.Salt = "00" }, "text": func(o *api.CodeOffer) { o.Salt = "x" },
	} {
		bad := good
		change(&bad)
		if _, err := saltOf(true, &bad); err == nil {
			t.Errorf("%s: accepted %+v", name, bad)
		}
	}
	if _, err := saltOf(false, nil); !errors.Is(err, ErrWindowClosed) {
		t.Errorf("closed: %v", err)
	}
}
