package pairing

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// tick is the least that a deadline test steps past or stops short of.
const tick = time.Millisecond

// TestFigures is the page of figures once more: who changes one must mean it.
func TestFigures(t *testing.T) {
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"window", WindowDuration, 180 * time.Second},
		{"press", PressDuration, 30 * time.Second},
		{"step", StepDuration, 5 * time.Second},
		{"exchange", ExchangeDuration, 20 * time.Second},
		{"vanished", VanishedDuration, time.Second},
		{"tries per window", TriesPerWindow, 5},
		{"tries per source", TriesPerSource, 2},
		{"tries per life", TriesPerLife, 100},
		{"digits", checkDigits, 6},
		{"name", MaxNameRunes, 64},
	} {
		if f.got != f.want {
			t.Errorf("%s: got %v, want %v", f.what, f.got, f.want)
		}
	}
}

// rule runs a test in virtual time with a device whose window is open.
func rule(t *testing.T, name string, f func(t *testing.T, d *device)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDevice(t)
			wantPress(t, d, PressOpened)
			f(t, d)
		})
	})
}

// wantAtOnce fails when f waits for a later deadline, whose error looks the same.
func wantAtOnce(t *testing.T, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if waited := time.Since(start); waited != 0 {
		t.Fatalf("waited %v, want no wait", waited)
	}
}

func begin(d *device, p *peer) error { return p.begin(d) }

func TestWindowEnds(t *testing.T) {
	rule(t, "after 180 s", func(t *testing.T, d *device) {
		time.Sleep(180*time.Second - tick)
		if s := d.State(); !s.Open || s.SecondsLeft != 1 {
			t.Fatalf("just before the end: got %+v", s)
		}
		time.Sleep(tick)
		if s := d.State(); s.Open || s.SecondsLeft != 0 || s.Modes != nil {
			t.Fatalf("at the end: got %+v", s)
		}
		wantErr(t, "begin", begin(d, newPeer(1)), ErrRefused)
	})
	rule(t, "never extended", func(t *testing.T, d *device) {
		time.Sleep(100 * time.Second)
		wantErr(t, "open again", d.Open(), nil)
		time.Sleep(60 * time.Second)
		a := newPeer(1).ask(t.Context(), d)
		<-a // 20 s are left, less than the 30 for the press
		if s := d.State(); s.Open {
			t.Fatalf("after 180 s: got %+v", s)
		}
	})
	rule(t, "told when it ends while asking", func(t *testing.T, d *device) {
		time.Sleep(170 * time.Second)
		a := newPeer(1).ask(t.Context(), d)
		start := time.Now()
		wantErr(t, "reveal", (<-a).err, ErrClosed)
		if waited := time.Since(start); waited != 10*time.Second {
			t.Fatalf("waited %v, want 10 s", waited)
		}
		wantPress(t, d, PressIgnored) // it was meant as a yes
		time.Sleep(time.Second)
		wantPress(t, d, PressOpened)
	})
	rule(t, "by a press with nobody asking", func(t *testing.T, d *device) {
		wantPress(t, d, PressClosed)
		wantErr(t, "begin", begin(d, newPeer(1)), ErrRefused)
		wantPress(t, d, PressOpened)
	})
	rule(t, "by a press before digits are shown", func(t *testing.T, d *device) {
		p := newPeer(1)
		wantErr(t, "begin", begin(d, p), nil)
		wantPress(t, d, PressClosed)
		_, err := d.Reveal(t.Context(), p.caller, p.reveal)
		wantErr(t, "reveal", err, ErrClosed)
	})
	rule(t, "by Close, also while asking", func(t *testing.T, d *device) {
		a := newPeer(1).ask(t.Context(), d)
		synctest.Wait()
		d.Close()
		d.Close()
		wantErr(t, "reveal", (<-a).err, ErrClosed)
		wantPress(t, d, PressOpened)
	})
}

func TestStepTimes(t *testing.T) {
	rule(t, "reveal within 5 s", func(t *testing.T, d *device) {
		p := newPeer(1)
		wantErr(t, "begin", begin(d, p), nil)
		time.Sleep(5*time.Second - tick)
		ctx, leave := context.WithCancel(t.Context())
		go leave()
		_, err := d.Reveal(ctx, p.caller, p.reveal)
		wantErr(t, "reveal in time", err, context.Canceled)
		wantErr(t, "begin", begin(d, p), nil)
		time.Sleep(5 * time.Second)
		wantAtOnce(t, func() { _, err = d.Reveal(t.Context(), p.caller, p.reveal) })
		wantErr(t, "reveal late", err, ErrTimeout)
	})
	rule(t, "20 s for all steps", func(t *testing.T, d *device) {
		d.disk.stall = 16 * time.Second
		p := newPeer(1)
		wantErr(t, "begin on a slow disk", begin(d, p), nil)
		time.Sleep(4 * time.Second)
		var err error
		wantAtOnce(t, func() { _, err = d.Reveal(t.Context(), p.caller, p.reveal) })
		wantErr(t, "reveal after 20 s", err, ErrTimeout)
		d.disk.stall = 21 * time.Second
		wantErr(t, "begin on a slower disk", begin(d, p), ErrTimeout)
	})
	rule(t, "press within 30 s", func(t *testing.T, d *device) {
		a := newPeer(1).ask(t.Context(), d)
		time.Sleep(30*time.Second - tick)
		wantPress(t, d, PressAccepted)
		wantErr(t, "reveal", (<-a).err, nil)
	})
	rule(t, "no press in 30 s", func(t *testing.T, d *device) {
		a := newPeer(1).ask(t.Context(), d)
		time.Sleep(30 * time.Second)
		wantAtOnce(t, func() { wantErr(t, "reveal", (<-a).err, ErrTimeout) })
		wantPress(t, d, PressIgnored)
		if d.list.count() != 0 {
			t.Fatal("granted")
		}
	})
}

func TestPressAfterVanishing(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		want  Pressed
	}{
		{"at once", 0, PressIgnored},
		{"within a second", time.Second - tick, PressIgnored},
		{"after a second", time.Second, PressClosed},
	} {
		rule(t, c.name, func(t *testing.T, d *device) {
			ctx, leave := context.WithCancel(t.Context())
			a := newPeer(1).ask(ctx, d)
			synctest.Wait()
			leave()
			wantErr(t, "reveal", (<-a).err, context.Canceled)
			if s := d.State(); !s.Open || s.Asking != nil {
				t.Fatalf("state: got %+v, want open and nobody asking", s)
			}
			time.Sleep(c.after)
			wantPress(t, d, c.want)
		})
	}
}

func TestSecondFingerprint(t *testing.T) {
	rule(t, "while digits are shown", func(t *testing.T, d *device) {
		a := newPeer(1).ask(t.Context(), d)
		synctest.Wait()
		wantErr(t, "second", begin(d, newPeer(2)), ErrOverlap)
		wantErr(t, "first", (<-a).err, ErrOverlap)
		if d.State().Open {
			t.Fatal("still open")
		}
		wantPress(t, d, PressIgnored)
	})
	rule(t, "before digits are shown", func(t *testing.T, d *device) {
		p := newPeer(1)
		wantErr(t, "first", begin(d, p), nil)
		wantErr(t, "second", begin(d, newPeer(2)), ErrOverlap)
		_, err := d.Reveal(t.Context(), p.caller, p.reveal)
		wantErr(t, "first, later", err, ErrOverlap)
	})
	rule(t, "after the first left", func(t *testing.T, d *device) {
		ctx, leave := context.WithCancel(t.Context())
		leave()
		wantErr(t, "first", (<-newPeer(1).ask(ctx, d)).err, context.Canceled)
		time.Sleep(time.Minute)
		wantErr(t, "second", begin(d, newPeer(2)), ErrOverlap)
	})
	rule(t, "not by one that may not ask", func(t *testing.T, d *device) {
		a := newPeer(1).ask(t.Context(), d)
		far := newPeer(2)
		far.caller.Local = false
		wantErr(t, "far", begin(d, far), ErrRefused)
		_, err := d.Begin(t.Context(), newPeer(3).caller, BeginRequest{Name: "x"})
		if bad := (*RequestError)(nil); !errors.As(err, &bad) || bad.Field != "commitment" {
			t.Fatalf("malformed: got %v, want a RequestError", err)
		}
		synctest.Wait()
		wantPress(t, d, PressAccepted)
		wantErr(t, "first", (<-a).err, nil)
	})
	rule(t, "the same client again replaces its own", func(t *testing.T, d *device) {
		p, q := newPeer(1), newPeer(1)
		first := p.ask(t.Context(), d)
		synctest.Wait()
		second := q.ask(t.Context(), d)
		wantErr(t, "first", (<-first).err, ErrReplaced)
		synctest.Wait()
		if s := d.State(); s.Asking == nil || s.Asking.Check != q.check {
			t.Fatalf("state: got %+v, want the digits of the second", s)
		}
		wantPress(t, d, PressAccepted)
		wantErr(t, "second", (<-second).err, nil)
	})
}

func TestTries(t *testing.T) {
	rule(t, "2 per source", func(t *testing.T, d *device) {
		p := newPeer(1)
		for range 2 {
			wantErr(t, "begin", begin(d, p), nil)
		}
		wantErr(t, "third", begin(d, p), ErrTries)
		if d.disk.n != 2 {
			t.Fatalf("counted %d, want 2", d.disk.n)
		}
		wantErr(t, "from elsewhere", begin(d, p.at("192.0.2.200")), nil)
		wantPress(t, d, PressClosed)
		wantPress(t, d, PressOpened)
		wantErr(t, "in the next window", begin(d, p), nil)
	})
	rule(t, "a source is a /64", func(t *testing.T, d *device) {
		p := newPeer(1)
		wantErr(t, "first", begin(d, p.at("2001:db8::1")), nil)
		wantErr(t, "second", begin(d, p.at("2001:db8::2%eth0")), nil)
		wantErr(t, "third", begin(d, p.at("2001:db8:0:0:ffff::")), ErrTries)
		wantErr(t, "its neighbour", begin(d, p.at("2001:db8:0:1::")), nil)
		if a, b := pace.Source(netip.MustParseAddr("192.0.2.1")), pace.Source(netip.MustParseAddr("::ffff:192.0.2.1")); a != b || a.Bits() != 32 {
			t.Fatalf("sources of one IPv4 address: %v and %v", a, b)
		}
	})
	rule(t, "5 per window", func(t *testing.T, d *device) {
		p := newPeer(1)
		sources := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
		for i := range 5 {
			q := p.at(sources[i/2])
			wantErr(t, "begin", begin(d, q), nil)
			q.reveal.Nonce = make([]byte, NonceBytes)
			_, err := d.Reveal(t.Context(), q.caller, q.reveal)
			wantErr(t, "wrong reveal", err, ErrRefused)
			if open := d.State().Open; open != (i < 4) {
				t.Fatalf("after %d failures: open is %v", i+1, open)
			}
		}
		wantErr(t, "sixth", begin(d, p.at(sources[2])), ErrRefused)
	})
	rule(t, "the fifth may succeed", func(t *testing.T, d *device) {
		p := newPeer(1)
		for i := range 4 {
			wantErr(t, "begin", begin(d, p.at([]string{"192.0.2.1", "192.0.2.2"}[i/2])), nil)
		}
		a := p.at("192.0.2.3").ask(t.Context(), d)
		synctest.Wait()
		wantPress(t, d, PressAccepted)
		wantErr(t, "fifth", (<-a).err, nil)
		if d.disk.n != 0 {
			t.Fatalf("counter after success: %d, want 0", d.disk.n)
		}
	})
	rule(t, "replacing the fifth ends the window", func(t *testing.T, d *device) {
		p := newPeer(1)
		for i := range 5 {
			wantErr(t, "begin", begin(d, p.at([]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}[i/2])), nil)
		}
		wantErr(t, "sixth", begin(d, p.at("192.0.2.3")), ErrTries)
		if d.State().Open {
			t.Fatal("still open")
		}
	})
}

func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t)
		p := newPeer(1)
		for i := range 100 {
			if i%2 == 0 {
				wantPress(t, d, PressOpened)
			}
			before := d.disk.n
			wantErr(t, "begin", begin(d, p), nil)
			if d.disk.n != before+1 {
				t.Fatalf("try %d: the disk has %d when the nonce is out, want %d", i, d.disk.n, before+1)
			}
			if i%2 == 1 {
				d = d.reboot(t) // forgets windows, not tries
			}
		}
		if !d.State().Locked {
			t.Fatal("not locked after 100 tries")
		}
		wantPress(t, d, PressLocked)
		locked := (*LockedError)(nil)
		if err := d.Open(); !errors.As(err, &locked) || locked.Tries != 100 {
			t.Fatalf("open: got %v, want locked after 100", err)
		}
		if did, err := d.LongPress(); did != PressOpened || err != nil {
			t.Fatalf("long press: got %v, %v", did, err)
		}
		if did, err := d.LongPress(); did != PressIgnored || err != nil {
			t.Fatalf("long press when not locked: got %v, %v", did, err)
		}
		if d.disk.n != 0 {
			t.Fatalf("counter after the long press: %d", d.disk.n)
		}
		wantErr(t, "begin", begin(d, p), nil)
	})
	t.Run("within a window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDevice(t, func(c *Config) { c.Counter.(*disk).n = 99 })
			wantPress(t, d, PressOpened)
			p := newPeer(1)
			wantErr(t, "hundredth", begin(d, p), nil)
			wantErr(t, "one more", begin(d, p), ErrTries)
			if d.disk.n != 100 {
				t.Fatalf("counter: %d, want 100", d.disk.n)
			}
		})
	})
}

func TestBrokenCounter(t *testing.T) {
	broken := errors.New("input/output error")
	rule(t, "nothing leaves uncounted", func(t *testing.T, d *device) {
		d.disk.broken = broken
		p := newPeer(1)
		if err := begin(d, p); !errors.Is(err, broken) || p.reply.Nonce != nil {
			t.Fatalf("begin: got %v and nonce %x, want the disk's error and none", err, p.reply.Nonce)
		}
	})
	t.Run("unreadable locks", func(t *testing.T) {
		d := newDevice(t, func(c *Config) { c.Counter.(*disk).broken = broken })
		wantPress(t, d, PressLocked)
		wantErr(t, "open", d.Open(), broken)
		if did, err := d.LongPress(); did != PressLocked || !errors.Is(err, broken) {
			t.Fatalf("long press: got %v, %v", did, err)
		}
		d.disk.broken = nil
		if did, err := d.LongPress(); did != PressOpened || err != nil {
			t.Fatalf("long press, disk repaired: got %v, %v", did, err)
		}
	})
}

func TestWhoMayAsk(t *testing.T) {
	rule(t, "", func(t *testing.T, d *device) {
		for name, change := range map[string]func(*Caller){
			"not local": func(c *Caller) { c.Local = false },
			"by QUIC":   func(c *Caller) { c.TCP = false },
			"nobody":    func(c *Caller) { c.Fingerprint = [32]byte{} },
		} {
			c := newPeer(1).caller
			change(&c)
			if got := d.Offers(c); got != nil {
				t.Errorf("%s: offered %v", name, got)
			}
			// The body is not even looked at.
			if _, err := d.Begin(t.Context(), c, BeginRequest{}); err != ErrRefused {
				t.Errorf("%s: got %v, want ErrRefused", name, err)
			}
		}
		if got := d.Offers(newPeer(1).caller); len(got) != 1 || got[0] != ModeButton {
			t.Errorf("offers: got %v, want button alone", got)
		}
		d.Close()
		if got := d.Offers(newPeer(1).caller); got != nil {
			t.Errorf("closed: offered %v", got)
		}
	})
	none := newDevice(t, func(c *Config) { c.Modes = []string{"smoke signals"} })
	wantPress(t, none, PressIgnored)
	wantErr(t, "open", none.Open(), ErrRefused)
}

func TestRevealIsForItsOwnExchange(t *testing.T) {
	rule(t, "", func(t *testing.T, d *device) {
		p := newPeer(1)
		a := p.ask(t.Context(), d)
		synctest.Wait()
		other, elsewhere, wrong := newPeer(2).caller, p.caller, p.reveal
		elsewhere.Exporter = make([]byte, ExporterBytes)
		wrong.Exchange = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
		for name, c := range map[string]struct {
			Caller
			RevealRequest
		}{
			"a replay":         {p.caller, p.reveal},
			"another client":   {other, p.reveal},
			"another session":  {elsewhere, p.reveal},
			"another exchange": {p.caller, wrong},
		} {
			if _, err := d.Reveal(t.Context(), c.Caller, c.RevealRequest); err != ErrRefused {
				t.Errorf("%s: got %v, want ErrRefused", name, err)
			}
		}
		wantPress(t, d, PressAccepted) // none of that disturbed it
		wantErr(t, "reveal", (<-a).err, nil)
	})
}

func TestGrant(t *testing.T) {
	rule(t, "refused, asked again", func(t *testing.T, d *device) {
		taken := errors.New(`the name "Alice" is taken: try "Alice 2"`)
		p := newPeer(1)
		for range 4 { // more than a source may fail
			d.list.refuse = taken
			a := p.ask(t.Context(), d)
			synctest.Wait()
			wantPress(t, d, PressAccepted)
			wantErr(t, "reveal", (<-a).err, taken)
			if s := d.State(); !s.Open || s.Asking != nil || d.disk.n != 0 {
				t.Fatalf("after a refused grant: %+v, counter %d", s, d.disk.n)
			}
		}
		d.list.refuse = nil
		a := p.ask(t.Context(), d)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		wantPress(t, d, PressAccepted)
		wantErr(t, "reveal", (<-a).err, nil)
	})
	rule(t, "under way", func(t *testing.T, d *device) {
		d.list.hold = make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		a := newPeer(1).ask(ctx, d)
		synctest.Wait()
		wantPress(t, d, PressAccepted)
		wantPress(t, d, PressIgnored)
		wantErr(t, "another client", begin(d, newPeer(2)), ErrBusy)
		wantErr(t, "open", d.Open(), ErrBusy)
		leave() // after the press it is granted all the same
		time.Sleep(WindowDuration)
		if s := d.State(); !s.Open || s.Asking == nil || !s.Asking.Accepted {
			t.Fatalf("state: got %+v", s)
		}
		close(d.list.hold)
		wantErr(t, "reveal", (<-a).err, nil)
		if d.State().Open || d.list.count() != 1 {
			t.Fatalf("open %v, %d granted", d.State().Open, d.list.count())
		}
	})
	rule(t, "cut by Close", func(t *testing.T, d *device) {
		d.list.hold = make(chan struct{})
		a := newPeer(1).ask(t.Context(), d)
		synctest.Wait()
		wantPress(t, d, PressAccepted)
		synctest.Wait()
		d.Close()
		wantErr(t, "reveal", (<-a).err, context.Canceled)
		wantPress(t, d, PressOpened)
	})
	rule(t, "by command", func(t *testing.T, d *device) {
		p := newPeer(1)
		if d.Accept(p.caller.Fingerprint) {
			t.Fatal("accepted nobody")
		}
		a := p.ask(t.Context(), d)
		synctest.Wait()
		if d.Accept(fingerprint(2)) {
			t.Fatal("accepted another fingerprint")
		}
		if !d.Accept(p.caller.Fingerprint) {
			t.Fatal("not accepted")
		}
		wantErr(t, "reveal", (<-a).err, nil)
	})
}
