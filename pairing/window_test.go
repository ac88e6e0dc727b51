package pairing

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestPairByPress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := newDevice(t), newPeer(1)
		wantPress(t, d, PressOpened)
		answered := p.ask(t.Context(), d)
		synctest.Wait()
		s := d.State()
		if s.Asking == nil || s.Asking.Check != p.check || s.Asking.Fingerprint != p.caller.Fingerprint || s.Asking.Name != "laptop" {
			t.Fatalf("state: got %+v, want digits %s of the asker", s.Asking, p.check)
		}
		if d.list.count() != 0 {
			t.Fatal("granted before the press")
		}
		wantPress(t, d, PressAccepted)
		a := <-answered
		wantErr(t, "reveal", a.err, nil)
		if want := (Granted{"Alice", "viewer"}); a.granted != want {
			t.Fatalf("granted: got %v, want %v", a.granted, want)
		}
		if s := d.State(); s.Open || s.Asking != nil {
			t.Fatalf("state after success: got %+v, want closed", s)
		}
		wantErr(t, "reveal again", func() error { _, err := d.Reveal(context.Background(), p.caller, p.reveal); return err }(), ErrRefused)
	})
}
