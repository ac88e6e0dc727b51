package pairing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSupportControl(t *testing.T) {
	session := func(t *testing.T, h *helpline) {
		t.Helper()
		if err := h.claims(t, hotline(1), h.shows(t)); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(h *helpline, n byte) chan error {
		answer := make(chan error, 1)
		go func() { answer <- h.Ask(context.Background(), fingerprint(n)) }()
		synctest.Wait()
		return answer
	}
	supportRule(t, "allowed", func(t *testing.T, h *helpline) {
		session(t, h)
		if allowed, meant := h.Allow(); allowed || meant {
			t.Error("control that was not asked for")
		}
		answer := ask(h, 1)
		if s := h.State(); s.Control != ControlAsked || s.AskedLeft != 60 {
			t.Errorf("%+v", s)
		}
		if allowed, _ := h.Allow(); !allowed {
			t.Error("not allowed")
		}
		if err := <-answer; err != nil || h.State().Control != ControlAllowed || h.desk.allowed != 1 {
			t.Errorf("%v, %+v", err, h.State())
		}
		if err := h.Ask(context.Background(), fingerprint(1)); err != nil {
			t.Errorf("asked again: %v", err)
		}
	})
	supportRule(t, "not answered", func(t *testing.T, h *helpline) {
		session(t, h)
		for range ControlsPerSession {
			answer := ask(h, 1)
			time.Sleep(ControlDuration)
			if err := <-answer; !errors.Is(err, ErrControlRefused) {
				t.Error(err)
			}
			if allowed, meant := h.Allow(); allowed || !meant {
				t.Errorf("a hold just after: %v, %v", allowed, meant)
			}
			time.Sleep(VanishedDuration)
			if _, meant := h.Allow(); meant {
				t.Error("a hold a second after")
			}
		}
		if err := h.Ask(context.Background(), fingerprint(1)); !errors.Is(err, ErrControlTooOften) {
			t.Error(err)
		}
	})
	supportRule(t, "a stranger asks", func(t *testing.T, h *helpline) {
		if err := h.Ask(context.Background(), fingerprint(1)); !errors.Is(err, ErrNoSupport) {
			t.Error(err)
		}
		session(t, h)
		if err := h.Ask(context.Background(), fingerprint(2)); !errors.Is(err, ErrNoSupport) {
			t.Error(err)
		}
	})
	supportRule(t, "a press while it is asked ends the session", func(t *testing.T, h *helpline) {
		session(t, h)
		answer := ask(h, 1)
		if did, _ := h.Press(); did != SupportHungUp {
			t.Error(did)
		}
		if err := <-answer; !errors.Is(err, ErrNoSupport) {
			t.Error(err)
		}
	})
	supportRule(t, "not given", func(t *testing.T, h *helpline) {
		session(t, h)
		answer := ask(h, 1)
		h.desk.refuse = errors.New("no room")
		if allowed, _ := h.Allow(); allowed {
			t.Error("allowed")
		}
		if err := <-answer; !errors.Is(err, ErrControlRefused) || h.State().Control != ControlNo {
			t.Errorf("%v, %+v", err, h.State())
		}
	})
	supportRule(t, "control is for one session", func(t *testing.T, h *helpline) {
		session(t, h)
		answer := ask(h, 1)
		h.Allow()
		<-answer
		h.Hang(SupportPressed)
		session(t, h)
		if h.State().Control != ControlNo {
			t.Error("the next session has it")
		}
	})
}
