package pairing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
)

var sticker = LabelCode{"7K3MNQ8ZTA"}

// A failureFile keeps Failures as a disk does.
type failureFile struct {
	mu     sync.Mutex
	list   []Failure
	broken error
}

func (f *failureFile) Load() ([]Failure, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list, f.broken
}

func (f *failureFile) Store(list []Failure) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.list = list
	}
	return f.broken
}

func (f *failureFile) times(source string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.list {
		if one.Source == netip.MustParsePrefix(source) {
			return one.Times
		}
	}
	return 0
}

// stickerRecord is made once: stretching takes its time.
var stickerRecord = sync.OnceValue(func() LabelRecord { return sticker.Record(deviceKey) })

func byLabel(always bool, f *failureFile) func(*Config) {
	return func(c *Config) {
		c.Modes, c.Label, c.LabelAlways, c.Failures = []string{ModeButton, ModeLabel}, stickerRecord(), always, f
	}
}

// wrongSecrets are of some other code.
var wrongSecrets = sync.OnceValue(func() *spake2plus.Secrets { return secretsOf("0000000000", deviceKey, stickerRecord().salt) })

// beginLabel does an exchange up to the client's proof.
func (p *peer) beginLabel(w *Window, right bool) (ConfirmRequest, error) {
	b := binding{device: deviceKey, client: p.caller.Fingerprint, exporter: p.caller.Exporter}
	secrets := wrongSecrets()
	if right {
		secrets = secretsOf(sticker.text, deviceKey, stickerRecord().salt)
	}
	a := &CodeAsker{prover: spake2plus.NewProver(secrets, b.parties(labelDomain))}
	reply, err := w.BeginLabel(context.Background(), p.caller, CodeRequest{Name: "laptop", User: "Alice", Share: a.Share()})
	if err != nil {
		return ConfirmRequest{}, err
	}
	r, err := a.Answer(reply)
	if err != nil {
		r = ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, spake2plus.ConfirmBytes)}
	}
	return r, nil
}

// tryLabel is a whole exchange.
func (p *peer) tryLabel(w *Window, right bool) error {
	r, err := p.beginLabel(w, right)
	if err == nil {
		_, err = w.ConfirmLabel(context.Background(), p.caller, r)
	}
	return err
}

func TestPairByLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{}
		d := newDevice(t, byLabel(false, f))
		p := newPeer(1)
		wantErr(t, "closed", p.tryLabel(d.Window, true), ErrRefused)
		if d.LabelSalt(p.caller) != nil || d.disk.n != 0 || len(f.list) != 0 {
			t.Fatal("something was told or counted while closed")
		}
		wantPress(t, d, PressOpened)
		if got := d.Offers(p.caller); len(got) != 2 || got[1] != ModeLabel || d.LabelSalt(p.caller) == nil {
			t.Fatalf("offered: %v", got)
		}
		far := newPeer(2)
		far.caller.Local = false
		wantErr(t, "from elsewhere", far.tryLabel(d.Window, true), ErrRefused)
		r, err := p.beginLabel(d.Window, true)
		wantErr(t, "begin", err, nil)
		if d.disk.n != 1 || f.times("192.0.2.1/32") != 1 {
			t.Fatalf("before the proof %d and %d are counted", d.disk.n, f.times("192.0.2.1/32"))
		}
		_, err = d.ConfirmLabel(context.Background(), p.caller, r)
		wantErr(t, "confirm", err, nil)
		if d.list.count() != 1 || d.list.granted[0].Mode != ModeLabel || d.disk.n != 0 || len(f.list) != 0 || d.State().Open {
			t.Fatalf("%+v, counted %d and %v", d.list.granted, d.disk.n, f.list)
		}
		_, err = d.ConfirmLabel(context.Background(), p.caller, r)
		wantErr(t, "replayed", err, ErrRefused)
	})
}

// A false device, or a relay between two sessions, gains nothing; each of its tries
// is counted, and each no is the same.
func TestLabelProofsFitOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{}
		d := newDevice(t, byLabel(true, f))
		victim := newPeer(1)
		middle := newPeer(2) // passes on what the victim says on its own session
		b := binding{device: deviceKey, client: victim.caller.Fingerprint, exporter: victim.caller.Exporter}
		a := &CodeAsker{prover: spake2plus.NewProver(secretsOf(sticker.text, deviceKey, stickerRecord().salt), b.parties(labelDomain))}
		reply, err := d.BeginLabel(context.Background(), middle.caller, CodeRequest{Name: "x", Share: a.Share()})
		wantErr(t, "begin", err, nil)
		if _, err := a.Answer(reply); !errors.Is(err, ErrWrongCode) {
			t.Fatalf("the victim takes the device's proof for another session: %v", err)
		}
		_, err = d.ConfirmLabel(context.Background(), middle.caller, ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, spake2plus.ConfirmBytes)})
		wantErr(t, "a guess", err, ErrProof)
		if err.Error() != ErrRefused.Error() || f.times("192.0.2.2/32") != 1 || d.disk.n != 1 {
			t.Fatalf("%v, %v, %d", err, f.list, d.disk.n)
		}
		// As a code it is nothing: the mode is in the proof.
		code := &CodeAsker{prover: spake2plus.NewProver(secretsOf(sticker.text, deviceKey, stickerRecord().salt), b.parties(codeDomain))}
		reply, err = d.BeginLabel(context.Background(), victim.caller, CodeRequest{Name: "x", Share: code.Share()})
		wantErr(t, "begin", err, nil)
		if _, err := code.Answer(reply); !errors.Is(err, ErrWrongCode) {
			t.Fatalf("another mode: %v", err)
		}
		// A second client meanwhile waits for its turn.
		wantErr(t, "two at once", middle.tryLabel(d.Window, true), ErrBusy)
	})
}

func TestAbandonedLabelTriesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{}
		d := newDevice(t, byLabel(true, f))
		p := newPeer(1)
		for n := 1; n <= FreeFailures; n++ {
			_, err := p.beginLabel(d.Window, true)
			wantErr(t, "begin", err, nil)
			time.Sleep(StepDuration) // and it is over, without any window
			if f.times("192.0.2.1/32") != n || d.disk.n != n {
				t.Fatalf("after %d: %v, %d", n, f.list, d.disk.n)
			}
		}
		if d.Offers(p.caller) != nil && f.times("192.0.2.1/32") < FreeFailures {
			t.Fatal("it counts as nothing")
		}
	})
}

// The figures for secrets that outlive a window.
func TestWaitsAfterFailures(t *testing.T) {
	for times, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: 0, 3: 2 * time.Second, 4: 4 * time.Second, 5: 8 * time.Second, 12: 1024 * time.Second, 13: 2048 * time.Second,
		14: time.Hour, 15: time.Hour, 100: time.Hour, 1 << 30: time.Hour,
	} {
		if got := waitAfter(times); got != want {
			t.Errorf("after %d failures %v, want %v", times, got, want)
		}
	}
	if MaxDelaySources != 4096 || TriesPerLife != 100 || labelChars*5 != 50 || TokenBytes*8 != 128 || InviteLife != 24*time.Hour {
		t.Error("a figure of the rules is another one")
	}
}

// A guesser tries without end from a handful of addresses while the vendor takes the
// label always, over restarts, for a simulated day: he gets what the rules leave him.
func TestLabelIsNotGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{}
		d := newDevice(t, byLabel(true, f))
		deadline := time.Now().Add(24 * time.Hour)
		taken, refused := 0, 0
		for n := 0; time.Now().Before(deadline); n++ {
			p := newPeer(byte(1 + n%4)) // an exchange each second from one of four
			switch err := p.tryLabel(d.Window, false); {
			case errors.Is(err, ErrProof):
				taken++
			case errors.Is(err, ErrRefused), errors.Is(err, ErrTries):
				refused++
			default:
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if n%7200 == 7199 {
				again := newDevice(t, func(c *Config) { byLabel(true, f)(c); c.Granter, c.Counter = d.list, d.disk })
				again.disk, again.list = d.disk, d.list
				d.Close()
				d = again
			}
		}
		if taken > TriesPerLife || d.disk.n != taken || d.list.count() != 0 {
			t.Fatalf("%d tries were taken, the counter says %d", taken, d.disk.n)
		}
		// Three, and then one after 2, 4, 8 … s; a restart begins each wait anew.
		if most := 4 * (FreeFailures + 24 + 12); taken > most {
			t.Errorf("%d tries in a day from 4 sources, want %d at most", taken, most)
		}
		t.Logf("%d tries taken, %d refused", taken, refused)
	})
}

// One who waits does not keep others out, and success ends his wait.
func TestDelaysAreOfOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{}
		d := newDevice(t, byLabel(true, f))
		bad := newPeer(1)
		for range FreeFailures {
			wantErr(t, "wrong", bad.tryLabel(d.Window, false), ErrProof)
		}
		if d.Offers(bad.caller) != nil || d.LabelSalt(bad.caller) != nil {
			t.Error("offered to who has to wait")
		}
		wantErr(t, "right, too soon", bad.tryLabel(d.Window, true), ErrRefused)
		wantErr(t, "the neighbour", newPeer(2).tryLabel(d.Window, true), nil)
		d2 := newDevice(t, func(c *Config) { byLabel(true, f)(c) })
		wantErr(t, "after a restart", bad.tryLabel(d2.Window, true), ErrRefused)
		time.Sleep(FirstDelay)
		wantErr(t, "in time", bad.tryLabel(d2.Window, true), nil)
		if len(f.list) != 0 {
			t.Errorf("kept: %v", f.list)
		}
		// A /64 is one source.
		for n := range FreeFailures {
			wantErr(t, "wrong", newPeer(9).at(fmt.Sprintf("2001:db8::%d", n+1)).tryLabel(d2.Window, false), ErrProof)
		}
		wantErr(t, "same /64", newPeer(9).at("2001:db8::ffff").tryLabel(d2.Window, true), ErrRefused)
		wantErr(t, "next /64", newPeer(9).at("2001:db8:0:1::1").tryLabel(d2.Window, true), nil)
	})
}

func TestDelaysNeedTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failureFile{broken: errors.New("the disk is gone")}
		d := newDevice(t, byLabel(true, f))
		if d.Offers(newPeer(1).caller) != nil {
			t.Fatal("offered while nobody knows who has failed")
		}
		f.broken = nil
		if err := d.Lift(); err != nil {
			t.Fatal(err)
		}
		f.broken = errors.New("full")
		if err := newPeer(1).tryLabel(d.Window, true); !errors.Is(err, f.broken) || d.list.count() != 0 {
			t.Fatalf("a try that could not be counted: %v", err)
		}
	})
}

func TestDelaysAreBounded(t *testing.T) {
	var d delays
	if err := d.load(); err != nil {
		t.Fatal(err)
	}
	source := func(n int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	}
	for range FreeFailures {
		_ = d.charge(source(0))
	}
	for n := range MaxDelaySources + 64 {
		_ = d.charge(source(n + 1))
	}
	if worst := d.known[source(0)]; len(d.known) != MaxDelaySources || worst == nil || worst.times != FreeFailures {
		t.Fatalf("%d are known, the worst is %+v", len(d.known), worst)
	}
}

func TestSetLabelEndsTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, byLabel(true, &failureFile{}))
		p := newPeer(1)
		r, err := p.beginLabel(d.Window, true)
		wantErr(t, "begin", err, nil)
		d.SetLabel(NewLabel().Record(deviceKey))
		_, err = d.ConfirmLabel(context.Background(), p.caller, r)
		wantErr(t, "with the old one", err, ErrClosed)
		wantErr(t, "again", p.tryLabel(d.Window, true), ErrProof)
		if !d.HasLabel() || strings.Contains(fmt.Sprint(d.label), "7K3MN") {
			t.Error("label")
		}
	})
}
