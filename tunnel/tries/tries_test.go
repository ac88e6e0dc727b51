package tries

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/pace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The figures of docs/application.md: a delay of 1, 2, 4 … 900 s after three failures.
func TestDelays(t *testing.T) {
	want := []time.Duration{0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900}
	for n, w := range want {
		if got := Delay(n); got != w*time.Second {
			t.Errorf("Delay(%d) = %v, want %v s", n, got, w)
		}
	}
	if Delay(maxFailures) != MaxDelay || Delay(maxFailures-1) == MaxDelay {
		t.Errorf("counting ends at %d failures, where the delay is %v", maxFailures, Delay(maxFailures))
	}
	if Forgotten <= MaxDelay {
		t.Error("whoever rests gets more tries than who goes on")
	}
}

func key(n uint64) (k [32]byte) {
	binary.BigEndian.PutUint64(k[8:], n+1)
	return k
}

var home = netip.MustParseAddr("192.0.2.7")

func stranger(n uint64, from netip.Addr) Who { return Who{Service: "cam", Key: key(n), Source: from} }

// try takes a try and ends it; it says how long that took.
func try(t testing.TB, l *Ledger, w Who, a Answer) time.Duration {
	t.Helper()
	began := time.Now()
	x, ok := l.Asker(w).Begin(nil, 0)
	if !ok {
		t.Fatal("no try")
	}
	waited := time.Since(began)
	x.End(a)
	return waited
}

func TestStrangersShareOneQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for n, want := range []time.Duration{0, 0, 0, 1, 2, 4} {
			// Each from a new address with a new key.
			from := netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
			if got := try(t, l, stranger(uint64(n), from), Refused); got.Round(10*time.Millisecond) != want*time.Second {
				t.Errorf("try %d waited %v, want %v s", n+1, got, want)
			}
		}
		if got := l.Asker(Who{Service: "other", Key: key(9), Source: home}).Delay(); got != 0 {
			t.Errorf("another service waits %v", got)
		}
	})
}

// guess tries wrong passwords until the time is up and returns how many there were.
func guess(l *Ledger, until time.Time, who func(n int) Who) int {
	gone := make(chan struct{})
	timer := time.AfterFunc(time.Until(until), func() { close(gone) })
	defer timer.Stop()
	for n := 0; ; n++ {
		x, ok := l.Asker(who(n)).Begin(gone, 0)
		if !ok {
			return n
		}
		x.End(Refused)
	}
}

// Whether with one key or with 10,000, from one address or from as many: a day has
// the same number of tries.
func TestManyKeysGetNoMoreTriesThanOne(t *testing.T) {
	day := func(who func(int) Who) (n int) {
		synctest.Test(t, func(t *testing.T) {
			n = guess(New(Config{}), time.Now().Add(24*time.Hour), who)
		})
		return n
	}
	one := day(func(int) Who { return stranger(0, home) })
	keys := day(func(n int) Who { return stranger(uint64(n%10_000), home) })
	addresses := day(func(n int) Who {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], uint64(n%10_000)<<16)
		a[0] = 0x20
		return stranger(uint64(n%10_000), netip.AddrFrom16(a))
	})
	const most = maxFailures + int(24*time.Hour/MaxDelay)
	if one > most || keys > one || addresses > one || one < 90 {
		t.Errorf("tries a day: %d with one key, %d with many, %d from everywhere; want at most %d, and no more with more", one, keys, addresses, most)
	}
}

// The same with all keys asking at the same moment.
func TestManyAtOnceGetNoMoreTriesThanOne(t *testing.T) {
	const keys = 2000
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		gone := make(chan struct{})
		tried := make(chan bool, keys)
		for n := range keys {
			go func() {
				x, ok := l.Asker(stranger(uint64(n), home)).Begin(gone, 0)
				if ok {
					time.Sleep(50 * time.Millisecond) // the service thinks
					x.End(Refused)
				}
				tried <- ok
			}()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		close(gone)
		n := 0
		for range keys {
			if <-tried {
				n++
			}
		}
		if most := maxFailures + int(time.Hour/MaxDelay); n > most || n < 10 {
			t.Errorf("%d of %d keys that asked at once had a try in an hour, want at most %d", n, keys, most)
		}
	})
}

func TestStrangersLockNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		known, user := stranger(1, home), Who{Service: "cam", User: "Alice", Key: key(2), Source: home}
		try(t, l, known, Succeeded)
		end := time.Now().Add(24 * time.Hour)
		done := make(chan int)
		go func() { done <- guess(l, end, func(n int) Who { return stranger(uint64(n+10), home) }) }()
		for time.Now().Before(end.Add(-time.Minute)) {
			time.Sleep(10 * time.Minute)
			for _, w := range []Who{known, user} {
				if waited := try(t, l, w, Succeeded); waited != 0 {
					t.Fatalf("%q waited %v", w.User, waited)
				}
			}
		}
		<-done
	})
}

// Somebody new with the right password has his turn beside a guesser who never
// rests: in the line he is before whoever has failed.
func TestNewcomerHasHisTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		gone := make(chan struct{})
		for n := range 8 {
			go func() {
				for {
					x, ok := l.Asker(stranger(uint64(n), home)).Begin(gone, 0)
					if !ok {
						return
					}
					x.End(Refused)
				}
			}()
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		w := stranger(99, netip.MustParseAddr("203.0.113.5"))
		if waited := try(t, l, w, Succeeded); waited > MaxDelay+time.Second {
			t.Errorf("somebody new waited %v, want one turn", waited)
		}
		if waited := try(t, l, w, Succeeded); waited != 0 {
			t.Errorf("and then %v", waited)
		}
		close(gone)
		synctest.Wait()
	})
}

func TestWhoSucceededHasACounterOfHisOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		w := stranger(1, home)
		try(t, l, w, Succeeded)
		waited := time.Duration(0)
		for range FreeTries + 1 {
			waited = try(t, l, w, Refused)
		}
		if waited < FirstDelay {
			t.Errorf("after %d failures he waits %v", FreeTries, waited)
		}
		if got := l.Asker(stranger(2, home)).Delay(); got != 0 {
			t.Errorf("others wait %v for his failures", got)
		}
		if got := l.Asker(Who{Service: "other", Key: key(1)}).Known(); got {
			t.Error("he is known at another service")
		}
		for range maxFailures {
			try(t, l, w, Refused)
		}
		if l.Asker(w).Known() {
			t.Error("he fails on and on and is known all the same")
		}
	})
}

// A success takes no failure back: with the password of one user there would be no
// end of tries for another's.
func TestSuccessForgivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tried := Who{Service: "cam", User: "Mallory"}, 0
		l := New(Config{})
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
			try(t, l, w, Refused)
			tried++
			try(t, l, w, Succeeded)
		}
		if most := maxFailures + int(24*time.Hour/MaxDelay) + 1; tried > most {
			t.Errorf("%d tries a day with a success after each, want at most %d", tried, most)
		}
		time.Sleep((maxFailures + 1) * Forgotten)
		if got := l.Asker(w).Delay(); got != 0 {
			t.Errorf("after as many hours as failures he waits %v", got)
		}
	})
}

func TestNewKnownArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		known := func() (n int) {
			for k := range uint64(4 * MaxKnown) {
				if l.Asker(stranger(k, home)).Known() {
					n++
				}
			}
			return n
		}
		for k := range uint64(100) {
			try(t, l, stranger(k, home), Succeeded)
		}
		if n := known(); n != NewKnown {
			t.Errorf("%d keys became known at once, want %d", n, NewKnown)
		}
		for k := range uint64(4 * MaxKnown) {
			time.Sleep(NewKnownEvery)
			try(t, l, stranger(k, home), Succeeded)
		}
		if n := known(); n != MaxKnown || !l.Asker(stranger(4*MaxKnown-1, home)).Known() {
			t.Errorf("%d are known, want the last %d", n, MaxKnown)
		}
	})
}

// A try without an answer is a failed one, and gives its place to the next.
func TestUnansweredTriesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		var open []*Try
		for n := range uint64(FreeTries) {
			x, _ := l.Asker(stranger(n, home)).Begin(nil, 0)
			open = append(open, x)
		}
		began := time.Now()
		x, _ := l.Asker(stranger(9, home)).Begin(nil, 0)
		if waited := time.Since(began); waited < sharedPatience+FirstDelay || waited > sharedPatience+2*FirstDelay {
			t.Errorf("the next one waited %v, want %v and the delay of three failures", waited, sharedPatience)
		}
		x.End(Neutral)
		for _, x := range open {
			x.End(Succeeded) // late: what was counted is given back
		}
		if got := l.Asker(stranger(10, home)).Delay(); got != 0 {
			t.Errorf("then others wait %v", got)
		}
		x, _ = l.Asker(stranger(11, home)).Begin(nil, 0)
		x.End(Abandoned)
		if got := l.services["cam"].shared.failures; got != 1 {
			t.Errorf("an abandoned try left %d failures, want 1", got)
		}
	})
}

func TestSamePasswordAgainIsNoTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		w := Who{Service: "cam", User: "Alice"}
		x, _ := l.Asker(w).Begin(nil, 7)
		x.End(Succeeded)
		for range maxFailures - 1 {
			try(t, l, w, Refused) // some other program of hers has a wrong one
			x, _ := l.Asker(w).Begin(nil, 8)
			x.End(Succeeded)
		}
		began := time.Now()
		x, _ = l.Asker(w).Begin(nil, 8)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the password that succeeded last waited %v", waited)
		}
		x.End(Refused)
		if l.Asker(w).Delay() == 0 {
			t.Error("it was changed, and its failure not counted")
		}
	})
}

func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for n := range 3 * MaxSources {
			a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
			x := l.sourceLocked(pace.Source(a))
			x.fail(time.Now())
			time.Sleep(time.Second)
		}
		if len(l.sources) != MaxSources {
			t.Errorf("%d sources remembered, want %d", len(l.sources), MaxSources)
		}
	})
}

// A source that fails at one service waits at the others as well.
func TestSourceCountsAtAllServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for n := range FreeTries {
			try(t, l, Who{Service: fmt.Sprint("s", n), Source: home}, Refused)
		}
		if got := l.Asker(Who{Service: "new", Source: home}).Delay(); got != FirstDelay {
			t.Errorf("the source waits %v at a new service, want %v", got, FirstDelay)
		}
		if got := l.Asker(Who{Service: "new", Source: netip.MustParseAddr("192.0.2.8")}).Delay(); got != 0 {
			t.Errorf("its neighbour waits %v", got)
		}
	})
}

// disk is a Keeper that a test can cut off.
type disk struct {
	data   []byte
	stores int
	err    error
}

func (d *disk) Load() ([]byte, error) { return d.data, nil }
func (d *disk) Store(data []byte) error {
	if d.err == nil {
		d.data, d.stores = bytes.Clone(data), d.stores+1
	}
	return d.err
}

// Restarting the device as often as one likes brings no more tries, not even
// right after each of them.
func TestRestartsBringNoTries(t *testing.T) {
	day := func(restart bool) (n int) {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{}
			l := New(Config{Keep: d})
			for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); n++ {
				try(t, l, stranger(uint64(n), home), Refused)
				if restart {
					l = New(Config{Keep: d})
				}
			}
		})
		return n
	}
	if without, with := day(false), day(true); with > without {
		t.Errorf("%d tries a day with restarts, %d without", with, without)
	}
}

func TestWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		l := New(Config{Keep: d})
		alice := Who{Service: "cam", User: "Alice"}
		for k := range uint64(3) {
			try(t, l, stranger(k, home), Succeeded)
			time.Sleep(time.Second)
		}
		stores := d.stores
		try(t, l, stranger(1, home), Succeeded)
		if d.stores != stores {
			t.Error("the disk is written for what was known")
		}
		for range FreeTries {
			try(t, l, alice, Refused)
			try(t, l, stranger(2, home), Refused)
		}
		l = New(Config{Keep: d})
		for k := range uint64(3) {
			if !l.Asker(stranger(k, home)).Known() {
				t.Errorf("key %d is known no more", k)
			}
		}
		for _, w := range []Who{alice, stranger(2, home)} {
			if got := l.Asker(w).Delay(); got != FirstDelay {
				t.Errorf("%+v waits %v after the restart, want %v", w, got, FirstDelay)
			}
		}
		if got := l.Asker(stranger(9, home)).Delay(); got != 0 {
			t.Errorf("others wait %v", got)
		}
		if l.services["cam"].mayAdd(time.Now()) {
			t.Error("the restart brought room for new keys")
		}
		d.err = errors.New("disk full")
		try(t, l, stranger(9, home), Refused) // and nobody is kept out
	})
}

func TestDamagedLedgerBeginsSlowly(t *testing.T) {
	for _, bad := range []string{
		"{", `{"version":2}`, `{"version":1,"more":1}`, `{"version":1,"services":[{"name":"cam","failures":-1}]}`,
		`{"version":1,"services":[{"name":"cam","failures":99}]}`, `{"version":1,"services":[{"name":"a","failures":0},{"name":"a","failures":0}]}`,
		`{"version":1,"services":[{"name":"cam","failures":0,"known":[{"key":"00"}]}]}`,
	} {
		var log bytes.Buffer
		l := New(Config{Keep: &disk{data: []byte(bad)}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if got := l.Asker(stranger(1, home)).Delay(); got < MaxDelay-time.Minute || log.Len() == 0 {
			t.Errorf("%s: strangers wait %v, log %q", bad, got, log.String())
		}
		if got := l.Asker(Who{Service: "cam", User: "Alice"}).Delay(); got != 0 {
			t.Errorf("%s: a user waits %v", bad, got)
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delays []time.Duration
		d := &disk{}
		l := New(Config{Keep: d, Failed: func(w Who, delay time.Duration) {
			if d.stores != len(delays)+1 {
				t.Error("told before it was kept")
			}
			delays = append(delays, delay)
		}})
		for range FreeTries + 1 {
			try(t, l, stranger(1, home), Refused)
		}
		l.Asker(stranger(1, home)).Fail()
		try(t, l, stranger(1, home), Neutral)
		if got := fmt.Sprint(delays); got != "[0s 0s 1s 2s 4s]" {
			t.Errorf("told %s", got)
		}
	})
}

func TestChallenged(t *testing.T) {
	l := New(Config{})
	a, b := l.Asker(stranger(1, home)), l.Asker(stranger(2, home))
	a.Challenged(7)
	if !b.IsChallenged(7) || b.IsChallenged(8) || b.IsChallenged(0) {
		t.Error("what one was refused is not known of the service")
	}
	for n := range uint64(maxChallenged) {
		a.Challenged(100 + n)
	}
	if b.IsChallenged(7) || !b.IsChallenged(100) {
		t.Error("the ring does not turn")
	}
}

// Whatever is on the disk, it is taken over whole or not at all, and what is
// written is read back.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"version":1,"services":[{"name":"cam","failures":5,"known":[{"key":"` + fmt.Sprintf("%064x", 1) + `","failures":2}],"users":[{"name":"Alice","failures":1}]}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &disk{data: data}
		l := New(Config{Keep: d})
		if l.damaged {
			return
		}
		l.keep()
		first := d.data
		l = New(Config{Keep: d})
		l.keep()
		if l.damaged || !bytes.Equal(first, d.data) {
			t.Errorf("%q became %q", first, d.data)
		}
	})
}
