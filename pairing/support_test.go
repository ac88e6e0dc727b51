package pairing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A shelf is a Ledger with the bad habits of disks.
type shelf struct {
	mu     sync.Mutex
	data   []byte
	broken error
	stores int
}

func (s *shelf) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data, s.broken
}

func (s *shelf) Store(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.data, s.stores = append([]byte(nil), b...), s.stores+1
	return nil
}

// written is how often something was stored, and what last.
func (s *shelf) written() (times int, last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stores, string(s.data)
}

// A desk is a Supporter that remembers.
type desk struct {
	mu      sync.Mutex
	refuse  error
	here    []SupportGuest
	allowed int
	ends    []SupportEnd
	gate    chan struct{} // not nil: Enter waits for it
}

func (d *desk) Enter(g SupportGuest) error {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse == nil {
		d.here = append(d.here, g)
	}
	return d.refuse
}

func (d *desk) Allow(SupportGuest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse == nil {
		d.allowed++
	}
	return d.refuse
}

func (d *desk) Leave(_ SupportGuest, why SupportEnd) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = append(d.ends, why)
}

func (d *desk) left() []SupportEnd {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]SupportEnd(nil), d.ends...)
}

// A helpline is a device's Support with its surroundings.
type helpline struct {
	*Support
	shelf *shelf
	desk  *desk
}

func newHelpline(t testing.TB, change ...func(*SupportConfig)) *helpline {
	t.Helper()
	h := &helpline{shelf: &shelf{}, desk: &desk{}}
	c := SupportConfig{Device: deviceKey, Ledger: h.shelf, Supporter: h.desk}
	for _, f := range change {
		f(&c)
	}
	if s, ok := c.Ledger.(*shelf); ok {
		h.shelf = s
	}
	var err error
	if h.Support, err = NewSupport(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// reboot is the same device with another process.
func (h *helpline) reboot(t testing.TB) *helpline {
	t.Helper()
	_ = h.Close()
	return newHelpline(t, func(c *SupportConfig) { c.Ledger = h.shelf })
}

func (h *helpline) shows(t testing.TB) SupportCode {
	t.Helper()
	if did, err := h.Press(); did != SupportShown {
		t.Fatalf("a press has %v, %v", did, err)
	}
	code := h.State().Code
	if code.IsZero() {
		t.Fatal("no code is shown")
	}
	return code
}

func hotline(n byte) Caller {
	e := sha256.Sum256([]byte{n})
	return Caller{Fingerprint: fingerprint(n), Exporter: e[:], Source: netip.AddrFrom4([4]byte{192, 0, 2, n})}
}

// begin does an exchange up to the hotline's proof, which is wrong if the code is.
func (h *helpline) begin(t testing.TB, c Caller, code SupportCode, proof ...VendorProof) (ConfirmRequest, error) {
	t.Helper()
	salt, _ := h.Offer()
	if salt == nil {
		salt = make([]byte, SaltBytes)
	}
	a, err := NewSupportAsker(c.Fingerprint, deviceKey, c.Exporter, code, salt)
	if err != nil {
		t.Fatal(err)
	}
	r := SupportRequest{Share: a.Share()}
	if len(proof) > 0 {
		r.Vendor = proof[0]
	}
	reply, err := h.Begin(context.Background(), c, r)
	if err != nil {
		return ConfirmRequest{}, err
	}
	confirm, err := a.Answer(reply)
	if err != nil {
		confirm = ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, spake2plus.ConfirmBytes)}
	}
	return confirm, nil
}

func (h *helpline) claims(t testing.TB, c Caller, code SupportCode, proof ...VendorProof) error {
	t.Helper()
	r, err := h.begin(t, c, code, proof...)
	if err == nil {
		_, err = h.Confirm(context.Background(), c, r)
	}
	return err
}

func otherCode(code SupportCode) SupportCode {
	if code.digits == "000000" {
		return SupportCode{"000001"}
	}
	return SupportCode{"000000"}
}

func wantPhase(t testing.TB, h *helpline, want SupportPhase) {
	t.Helper()
	synctest.Wait() // for timers of this very moment
	if got := h.State().Phase; got != want {
		t.Fatalf("phase %v, want %v", got, want)
	}
}

// supportRule runs a test in virtual time.
func supportRule(t *testing.T, name string, f func(t *testing.T, h *helpline)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newHelpline(t)) })
	})
}

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

func TestSupportBudget(t *testing.T) {
	refused := func(t *testing.T, h *helpline) time.Duration {
		t.Helper()
		did, err := h.Press()
		var limit *LimitError
		if did != SupportRefused || !errors.As(err, &limit) {
			t.Fatalf("%v, %v", did, err)
		}
		return limit.Wait
	}
	once := func(t *testing.T, h *helpline) {
		t.Helper()
		h.shows(t)
		h.Hang(SupportPressed)
	}
	supportRule(t, "three an hour", func(t *testing.T, h *helpline) {
		for range SupportCodesPerHour {
			once(t, h)
			time.Sleep(time.Minute)
		}
		if wait := refused(t, h); wait != 57*time.Minute {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(57*time.Minute - time.Second)
		refused(t, h)
		time.Sleep(time.Second)
		once(t, h)
		refused(t, h)
	})
	supportRule(t, "ten a day", func(t *testing.T, h *helpline) {
		began := time.Now()
		for range SupportCodesPerDay {
			once(t, h)
			time.Sleep(time.Hour)
		}
		refused(t, h)
		time.Sleep(time.Until(began.Add(24*time.Hour - time.Second)))
		refused(t, h)
		time.Sleep(time.Second)
		once(t, h)
		refused(t, h)
	})
	supportRule(t, "a reboot gives nothing", func(t *testing.T, h *helpline) {
		for range SupportCodesPerHour {
			once(t, h)
		}
		for range 20 {
			h = h.reboot(t)
			refused(t, h)
		}
		time.Sleep(45 * time.Minute)
		synctest.Wait()
		h = h.reboot(t) // kept every ten minutes: 40 of the 45 count
		if wait := refused(t, h); wait < 15*time.Minute || wait > 20*time.Minute {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(20 * time.Minute)
		once(t, h)
	})
	supportRule(t, "a day of running time", func(t *testing.T, h *helpline) {
		for range SupportCodesPerDay {
			once(t, h)
			time.Sleep(time.Hour)
		}
		stores, _ := h.shelf.written()
		for range 15 { // restarted each hour: ten minutes are lost once
			h = h.reboot(t)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
		}
		once(t, h)
		if n, _ := h.shelf.written(); n-stores > 15*6+2 {
			t.Errorf("%d writes", n-stores)
		}
	})
	supportRule(t, "what was used ages out and nothing more is written", func(t *testing.T, h *helpline) {
		once(t, h)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		stores, _ := h.shelf.written()
		if stores > 2+6+24 {
			t.Errorf("%d writes for one code", stores)
		}
		time.Sleep(100 * time.Hour)
		synctest.Wait()
		if n, _ := h.shelf.written(); n != stores {
			t.Error("an idle device writes")
		}
	})
	supportRule(t, "a ledger that cannot be kept", func(t *testing.T, h *helpline) {
		h.shelf.broken = errors.New("no disk")
		refused(t, h)
		wantPhase(t, h, SupportIdle)
	})
	for name, data := range map[string]string{
		"damaged": "}{", "too long": `{"codes":[` + strings.Repeat(" ", maxLedgerBytes) + `]}`, "negative": `{"codes":[{"age":-5,"tries":0}]}`,
		"tomorrow": `{"codes":[{"age":99999999,"tries":0}]}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHelpline(t, func(c *SupportConfig) { c.Ledger = &shelf{data: []byte(data)} })
			if wait := refused(t, h); wait != 24*time.Hour {
				t.Errorf("%s: wait %v", name, wait)
			}
		})
	}
}

// A guesser who has a button pressed for him all the time, and restarts the device as he
// likes, gets no more than 30 tries a day.
func TestSupportBruteForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHelpline(t)
		tries, began := 0, time.Now()
		for n := byte(0); time.Since(began) < 24*time.Hour; n++ {
			if did, _ := h.Press(); did == SupportShown {
				for {
					if _, err := h.begin(t, hotline(n%200+1), SupportCode{"000000"}); err != nil {
						break
					}
					tries++
				}
				h.Hang(SupportPressed)
			}
			if n%3 == 0 {
				h = h.reboot(t)
			}
			time.Sleep(7 * time.Minute)
		}
		if most := SupportCodesPerDay * TriesPerSupportCode; tries > most || tries < most/2 {
			t.Errorf("%d tries in a day, want at most %d", tries, most)
		}
	})
}

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

// With a vendor's key four digits are enough, and who does not have it tries nothing.
func TestSupportVendorKey(t *testing.T) {
	vendor, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	h := newHelpline(t, func(c *SupportConfig) { c.Digits, c.Vendor = SupportDigitsShort, vendor.Fingerprint() })
	code := h.shows(t)
	if len(code.digits) != 4 || code.Grouped() != code.digits || !h.WantsVendor() {
		t.Errorf("%d digits", len(code.digits))
	}
	proof := func(k *identity.Key, c Caller) VendorProof {
		p, err := NewVendorProof(k, c.Fingerprint, deviceKey, c.Exporter)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, p := range map[string]VendorProof{
		"none": {}, "another key's": proof(other, hotline(1)), "of another session": proof(vendor, hotline(2)),
		"too long": {PublicKey: make([]byte, 5000), Signature: make([]byte, 5000)},
	} {
		for range 5 {
			if err := h.claims(t, hotline(1), code, p); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := h.claims(t, hotline(1), code, proof(vendor, hotline(1))); err != nil {
		t.Errorf("with the key: %v", err)
	}
	if _, err := NewSupport(SupportConfig{Device: deviceKey, Ledger: &shelf{}, Supporter: &desk{}, Digits: 4}); err == nil {
		t.Error("four digits without a key")
	}
}

func TestSupportCodes(t *testing.T) {
	for typed, want := range map[string]string{"204862": "204862", " 204 862\n": "204862", "204-862": "204862", "2048": "2048", "20486": "", "2048622": "", "": "", "20486a": "", strings.Repeat(" ", 90) + "204862": ""} {
		c, err := ParseSupportCode(typed)
		if c.digits != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", typed, c.digits, err)
		}
	}
	c := SupportCode{"204862"}
	text, _ := c.MarshalText()
	for _, shown := range []string{fmt.Sprintf("%v %s %d %#v", c, c, c, c), c.String(), string(text), fmt.Sprint(slog.AnyValue(c))} {
		if strings.Contains(shown, "204") {
			t.Errorf("a code prints: %s", shown)
		}
	}
	if c.Grouped() != "204 862" || (SupportCode{}).Grouped() != "" {
		t.Error(c.Grouped())
	}
	seen := map[SupportCode]bool{}
	for range 100 {
		seen[randomSupportCode(SupportDigits)] = true
	}
	if len(seen) < 95 {
		t.Errorf("%d different codes of 100", len(seen))
	}
}

func TestSupportFigures(t *testing.T) {
	for what, ok := range map[string]bool{
		"five minutes to claim": SupportCodeDuration == 5*time.Minute, "half an hour": SupportDuration == 30*time.Minute,
		"three tries": TriesPerSupportCode == 3, "three an hour": SupportCodesPerHour == 3, "ten a day": SupportCodesPerDay == 10,
		"six digits": SupportDigits == 6, "four digits": SupportDigitsShort == 4, "a minute to allow control": ControlDuration == time.Minute,
		"asked three times": ControlsPerSession == 3,
	} {
		if !ok {
			t.Error(what)
		}
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"codes":[{"age":5400,"tries":3},{"age":60,"tries":0}]}`))
	f.Add([]byte(`{"codes":[]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Now()
		codes, err := parseLedger(data, now)
		if err != nil {
			return
		}
		b := budget{store: &shelf{}, codes: codes, known: true}
		if b.waitLocked(now) > day || len(b.codes) > SupportCodesPerDay {
			t.Errorf("%d codes, wait %v", len(b.codes), b.waitLocked(now))
		}
	})
}
