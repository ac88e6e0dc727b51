package pairing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
)

func TestSupport(t *testing.T) {
	supportRule(t, "a code lets one hotline in, once", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		if s := h.State(); s.SecondsLeft != 300 || len(code.digits) != 6 {
			t.Errorf("%d digits, %d s", len(code.digits), s.SecondsLeft)
		}
		if err := h.claims(t, hotline(1), code); err != nil {
			t.Fatal(err)
		}
		s := h.State()
		if s.Phase != SupportSession || s.Guest != fingerprint(1) || s.Code != (SupportCode{}) || s.SecondsLeft != 1800 || s.Control != ControlNo {
			t.Errorf("%+v", s)
		}
		if salt, _ := h.Offer(); salt != nil || h.Waits() {
			t.Error("a code is still offered")
		}
		if err := h.claims(t, hotline(2), code); !errors.Is(err, ErrRefused) {
			t.Errorf("a code that is used up: %v", err)
		}
	})
	supportRule(t, "a press ends the session at once", func(t *testing.T, h *helpline) {
		if err := h.claims(t, hotline(1), h.shows(t)); err != nil {
			t.Fatal(err)
		}
		if did, err := h.Press(); did != SupportHungUp || err != nil {
			t.Errorf("%v, %v", did, err)
		}
		if left := h.desk.left(); len(left) != 1 || left[0] != SupportPressed {
			t.Errorf("%v", left)
		}
	})
	supportRule(t, "a press withdraws the code", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		if did, _ := h.Press(); did != SupportWithdrawn {
			t.Error(did)
		}
		if err := h.claims(t, hotline(1), code); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		if next := h.shows(t); next == code {
			t.Error("the same code again") // once in a million
		}
	})
	supportRule(t, "five minutes to claim", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		time.Sleep(5*time.Minute - time.Second)
		wantPhase(t, h, SupportWaiting)
		time.Sleep(time.Second)
		wantPhase(t, h, SupportIdle)
		if err := h.claims(t, hotline(1), code); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
	supportRule(t, "half an hour to stay", func(t *testing.T, h *helpline) {
		if err := h.claims(t, hotline(1), h.shows(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30*time.Minute - time.Second)
		wantPhase(t, h, SupportSession)
		time.Sleep(time.Second)
		wantPhase(t, h, SupportIdle)
		synctest.Wait()
		if left := h.desk.left(); len(left) != 1 || left[0] != SupportTimeUp {
			t.Errorf("%v", left)
		}
	})
	supportRule(t, "a hotline leaves", func(t *testing.T, h *helpline) {
		if err := h.claims(t, hotline(1), h.shows(t)); err != nil {
			t.Fatal(err)
		}
		if h.Leave(fingerprint(2)) || !h.Leave(fingerprint(1)) || h.Leave(fingerprint(1)) {
			t.Error("who may end it")
		}
		wantPhase(t, h, SupportIdle)
	})
	supportRule(t, "who is not let in has used the code up", func(t *testing.T, h *helpline) {
		h.desk.refuse = errors.New("full")
		code := h.shows(t)
		if err := h.claims(t, hotline(1), code); !errors.Is(err, h.desk.refuse) {
			t.Error(err)
		}
		wantPhase(t, h, SupportIdle)
		if left := h.desk.left(); len(left) != 0 {
			t.Errorf("who did not enter left: %v", left)
		}
	})
	supportRule(t, "a press while he enters keeps him out", func(t *testing.T, h *helpline) {
		h.desk.gate = make(chan struct{})
		r, err := h.begin(t, hotline(1), h.shows(t))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := h.Confirm(context.Background(), hotline(1), r)
			done <- err
		}()
		synctest.Wait()
		if did, _ := h.Press(); did != SupportWithdrawn {
			t.Error(did)
		}
		close(h.desk.gate)
		if err := <-done; !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		if left := h.desk.left(); len(left) != 1 {
			t.Errorf("%v", left)
		}
		wantPhase(t, h, SupportIdle)
	})
}

func TestSupportTries(t *testing.T) {
	supportRule(t, "three tries", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		for i := range byte(TriesPerSupportCode) {
			if err := h.claims(t, hotline(i+1), otherCode(code)); !errors.Is(err, ErrProof) || err.Error() != ErrRefused.Error() {
				t.Errorf("try %d: %v", i, err)
			}
		}
		wantPhase(t, h, SupportIdle)
		if err := h.claims(t, hotline(9), code); !errors.Is(err, ErrRefused) {
			t.Errorf("a fourth try, with the right code: %v", err)
		}
	})
	supportRule(t, "an abandoned exchange is a try", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		for range TriesPerSupportCode {
			if _, err := h.begin(t, hotline(1), otherCode(code)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(StepDuration)
		}
		wantPhase(t, h, SupportIdle)
	})
	supportRule(t, "the same hotline again is another try", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		for range TriesPerSupportCode {
			if _, err := h.begin(t, hotline(1), code); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.begin(t, hotline(1), code); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
	supportRule(t, "two hotlines at once", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		r, err := h.begin(t, hotline(1), code)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.begin(t, hotline(2), code); !errors.Is(err, ErrBusy) {
			t.Errorf("the second: %v", err)
		}
		if _, err := h.Confirm(context.Background(), hotline(2), r); !errors.Is(err, ErrRefused) {
			t.Errorf("with the other's proof: %v", err)
		}
		if _, err := h.Confirm(context.Background(), hotline(1), r); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	supportRule(t, "a proof fits its session only", func(t *testing.T, h *helpline) {
		r, err := h.begin(t, hotline(1), h.shows(t))
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := hotline(1)
		elsewhere.Exporter = make([]byte, ExporterBytes)
		if _, err := h.Confirm(context.Background(), elsewhere, r); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		if _, err := h.Confirm(context.Background(), hotline(1), r); err != nil {
			t.Error(err)
		}
		if _, err := h.Confirm(context.Background(), hotline(1), r); !errors.Is(err, ErrRefused) {
			t.Errorf("the same proof again: %v", err)
		}
	})
	supportRule(t, "a try that cannot be counted is none", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		h.shelf.broken = errors.New("no disk")
		if _, err := h.begin(t, hotline(1), code); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		if h.desk.here != nil {
			t.Error("let in")
		}
	})
	supportRule(t, "a try is on the disk before the answer", func(t *testing.T, h *helpline) {
		code := h.shows(t)
		if _, err := h.begin(t, hotline(1), code); err != nil {
			t.Fatal(err)
		}
		if _, got := h.shelf.written(); got != `{"codes":[{"age":0,"tries":1}]}`+"\n" {
			t.Error(got)
		}
	})
}

// A man in the middle holds two sessions: what each side proves is of its own.
func TestSupportIsBoundToTheSession(t *testing.T) {
	code, salt := SupportCode{"204862"}, make([]byte, SaltBytes)
	record := secretsOf(code.digits, deviceKey, salt).Record()
	for name, b := range map[string]binding{
		"session": {deviceKey, fingerprint(1), times32(9)}, "client": {deviceKey, fingerprint(2), times32(1)}, "device": {fingerprint(3), fingerprint(1), times32(1)},
	} {
		a, err := NewSupportAsker(fingerprint(1), deviceKey, times32(1), code, salt)
		if err != nil {
			t.Fatal(err)
		}
		v, err := spake2plus.Respond(record, b.parties(supportDomain), a.Share())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Answer(CodeReply{Exchange: "x", Share: v.Share(), Confirm: v.Confirm()}); !errors.Is(err, ErrWrongCode) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	// Nor is a proof of pairing one of support.
	b := binding{deviceKey, fingerprint(1), times32(1)}
	a, err := NewSupportAsker(fingerprint(1), deviceKey, times32(1), code, salt)
	if err != nil {
		t.Fatal(err)
	}
	v, err := spake2plus.Respond(record, b.parties(codeDomain), a.Share())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Answer(CodeReply{Exchange: "x", Share: v.Share(), Confirm: v.Confirm()}); !errors.Is(err, ErrWrongCode) {
		t.Errorf("another mode: %v", err)
	}
}
