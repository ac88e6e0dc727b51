package pairing

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keyholed/keyhole/pairing/spake2plus"
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
