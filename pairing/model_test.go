package pairing

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRandomDays lets people press and clients ask, reveal wrongly and vanish at
// random over virtual hours, beside a model that knows only this: a grant needs
// an accepting press of its own, an accepting press needs shown digits, and no
// window is longer than 180 s.
func TestRandomDays(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { randomDay(t, seed) })
	}
}

func randomDay(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	d := newDevice(t)
	var opened time.Time
	accepted, granted := 0, atomic.Int64{}
	leave := func() {}
	for range 400 {
		synctest.Wait()
		before := d.State()
		switch random.IntN(8) {
		case 0, 1, 2:
			switch d.Press() {
			case PressOpened:
				if before.Open {
					t.Fatalf("seed %d: opened an open window", seed)
				}
				opened = time.Now()
			case PressAccepted:
				if before.Asking == nil {
					t.Fatalf("seed %d: a press accepted nobody that was shown", seed)
				}
				accepted++
			case PressClosed:
				if before.Asking != nil {
					t.Fatalf("seed %d: a press closed the window on shown digits", seed)
				}
			case PressLocked:
				if _, err := d.LongPress(); err != nil {
					t.Fatal(err)
				}
				opened = time.Now()
			}
		case 3, 4, 5:
			p := newPeer(byte(1 + random.IntN(9)/8))
			p.caller.Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(4))})
			p.caller.Local = random.IntN(10) > 0
			ctx, cancel := context.WithCancel(t.Context())
			leave = cancel
			if p.begin(d) != nil {
				cancel()
				break
			}
			if random.IntN(4) == 0 {
				p.reveal.Nonce = make([]byte, NonceBytes)
			}
			wait := time.Duration(random.IntN(6000)) * time.Millisecond * time.Duration(random.IntN(2))
			go func() {
				defer cancel()
				time.Sleep(wait)
				if _, err := d.Reveal(ctx, p.caller, p.reveal); err == nil {
					granted.Add(1)
				}
			}()
		case 6:
			leave()
		case 7:
			time.Sleep(time.Duration(random.IntN(40_000)) * time.Millisecond)
		}
		synctest.Wait()
		s := d.State()
		if n := d.list.count(); n != accepted || int(granted.Load()) != n {
			t.Fatalf("seed %d: %d accepting presses, %d entries, %d told", seed, accepted, n, granted.Load())
		}
		if s.Open && time.Since(opened) >= WindowDuration {
			t.Fatalf("seed %d: a window open for %v", seed, time.Since(opened))
		}
		if s.Asking != nil && !s.Open {
			t.Fatalf("seed %d: digits without a window", seed)
		}
	}
	d.Close()
	time.Sleep(time.Minute) // slow clients come back
	synctest.Wait()
}

// TestMillionTries is an attacker beside an owner who keeps pressing, over 24
// virtual hours with a restart each hour: at most 5 tries per press and 100
// without a 10 s hold.
func TestMillionTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := newDevice(t), newPeer(1)
		commitment := times32(1)
		presses, holds, tries := 0, 0, 0
		const asks = 1_000_000
		for i := range asks {
			if i%(asks/24) == 0 {
				d = d.reboot(t)
			}
			if i%2000 == 0 && !d.State().Open {
				switch d.Press() {
				case PressOpened:
					presses++
				case PressLocked:
					if i > asks/2 && holds == 0 { // the owner comes home once
						if _, err := d.LongPress(); err != nil {
							t.Fatal(err)
						}
						holds++
						presses++
					}
				}
			}
			p.caller.Source = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			if _, err := d.Begin(t.Context(), p.caller, BeginRequest{Name: "x", Commitment: commitment}); err == nil {
				tries++
			}
			time.Sleep(24 * time.Hour / asks)
		}
		if tries > TriesPerWindow*presses || tries > TriesPerLife*(holds+1) || tries < TriesPerLife {
			t.Errorf("%d tries with %d presses and %d holds", tries, presses, holds)
		}
	})
}

func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *Window
		var states []State
		d := newDevice(t, func(c *Config) {
			c.Changed = func(s State) {
				states = append(states, s)
				if now := w.State(); !now.same(s) && len(states) == 1 {
					t.Errorf("told %+v while it is %+v", s, now)
				}
				w.Offers(Caller{}) // may call the Window
			}
		})
		w = d.Window
		wantPress(t, d, PressOpened)
		a := newPeer(1).ask(t.Context(), d)
		wantErr(t, "reveal", (<-a).err, ErrTimeout)
		time.Sleep(WindowDuration)
		synctest.Wait()
		var got []string
		for _, s := range states {
			got = append(got, map[bool]string{true: "open", false: "closed"}[s.Open]+map[bool]string{true: " asking"}[s.Asking != nil])
		}
		want := []string{"open", "open asking", "open", "closed"}
		if len(got) != len(want) {
			t.Fatalf("told %q, want %q", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("told %q, want %q", got, want)
			}
		}
	})
}

func TestGranterPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, func(c *Config) { c.Granter = panics{} })
		wantPress(t, d, PressOpened)
		p := newPeer(1)
		wantErr(t, "begin", p.begin(d), nil)
		go func() {
			defer func() { _ = recover() }()
			_, _ = d.Reveal(context.Background(), p.caller, p.reveal)
		}()
		synctest.Wait()
		wantPress(t, d, PressAccepted)
		synctest.Wait()
		if s := d.State(); !s.Open || s.Asking != nil {
			t.Fatalf("state: got %+v, want open and usable", s)
		}
		wantErr(t, "ask again", p.begin(d), nil)
	})
}

type panics struct{}

func (panics) Grant(context.Context, Request) (Granted, error) { panic("boom") }

func TestNewWantsItsParts(t *testing.T) {
	whole := Config{Device: deviceKey, Granter: &list{}, Counter: &disk{}}
	for name, take := range map[string]func(*Config){
		"device":  func(c *Config) { c.Device = [32]byte{} },
		"granter": func(c *Config) { c.Granter = nil },
		"counter": func(c *Config) { c.Counter = nil },
	} {
		c := whole
		take(&c)
		if _, err := New(c); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
	if (&LockedError{Err: errors.New("x")}).Error() == (&LockedError{}).Error() {
		t.Error("one text for two kinds of locks")
	}
}
