package pairing

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

func byCode(c *Config) { c.Modes, c.Display = []string{ModeButton, ModeCode}, true }

// codeRule runs a test in virtual time with a device that shows a code.
func codeRule(t *testing.T, name string, f func(t *testing.T, d *device)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDevice(t, byCode)
			wantPress(t, d, PressOpened)
			f(t, d)
		})
	})
}

func wrongCode(d *device) Passcode {
	if c := (Passcode{"00000000"}); d.State().Code != c {
		return c
	}
	return Passcode{"00000001"}
}

// beginCode does an exchange up to the client's proof.
func (p *peer) beginCode(d *device, code Passcode) (ConfirmRequest, error) {
	salt := d.Salt(p.caller)
	if salt == nil {
		salt = make([]byte, SaltBytes)
	}
	a, err := NewCodeAsker(p.caller.Fingerprint, deviceKey, p.caller.Exporter, code, salt)
	if err != nil {
		return ConfirmRequest{}, err
	}
	reply, err := d.BeginCode(context.Background(), p.caller, CodeRequest{Name: "laptop", User: "Alice", Share: a.Share()})
	if err != nil {
		return ConfirmRequest{}, err
	}
	r, err := a.Answer(reply)
	if err != nil {
		r = ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, spake2plus.ConfirmBytes)}
	}
	return r, err
}

func (p *peer) confirm(d *device, r ConfirmRequest) (Granted, error) {
	return d.ConfirmCode(context.Background(), p.caller, r)
}

func TestPairByCode(t *testing.T) {
	codeRule(t, "", func(t *testing.T, d *device) {
		s := d.State()
		if len(s.Modes) != 1 || s.Modes[0] != ModeCode || !regexp.MustCompile(`^\d{4} \d{4}$`).MatchString(s.Code.Grouped()) {
			t.Fatalf("state: modes %v, code %q", s.Modes, s.Code.Grouped())
		}
		p := newPeer(1)
		r, err := p.beginCode(d, s.Code)
		wantErr(t, "begin", err, nil)
		if d.disk.n != 1 {
			t.Fatalf("counted %d before the proof, want 1", d.disk.n)
		}
		d.list.hold = make(chan struct{})
		done := make(chan answer, 1)
		go func() { g, err := p.confirm(d, r); done <- answer{g, err} }()
		synctest.Wait()
		if s := d.State(); !s.Code.IsZero() || s.Asking == nil || !s.Asking.Accepted {
			t.Errorf("a used code is shown: %+v", s)
		}
		close(d.list.hold)
		a := <-done
		wantErr(t, "confirm", a.err, nil)
		if a.granted != (Granted{"Alice", "viewer"}) || d.list.granted[0].Mode != ModeCode || d.disk.n != 0 {
			t.Errorf("granted %+v, %+v, counter %d", a.granted, d.list.granted, d.disk.n)
		}
		if after := d.State(); after.Open || !after.Code.IsZero() {
			t.Errorf("after success: %+v", after)
		}
		_, err = p.confirm(d, r)
		wantErr(t, "again", err, ErrRefused)
		wantPress(t, d, PressOpened)
		if d.State().Code == s.Code {
			t.Error("a code came twice")
		}
	})
}

func TestCodeRefusals(t *testing.T) {
	codeRule(t, "wrong code, both ends see it", func(t *testing.T, d *device) {
		p := newPeer(1)
		r, err := p.beginCode(d, wrongCode(d))
		wantErr(t, "client", err, ErrWrongCode)
		_, err = p.confirm(d, r)
		wantErr(t, "device", err, ErrProof)
		if d.list.count() != 0 || d.disk.n != 1 {
			t.Errorf("granted %d, counted %d", d.list.count(), d.disk.n)
		}
		if err.Error() != ErrRefused.Error() {
			t.Error("a wrong code has an answer of its own")
		}
		_, err = p.confirm(d, r)
		wantErr(t, "again", err, ErrProof)
	})
	codeRule(t, "two of a source, five of a window", func(t *testing.T, d *device) {
		p := newPeer(1)
		for i := range TriesPerWindow {
			q := p.at(fmt.Sprintf("192.0.2.%d", 1+i/TriesPerSource))
			r, err := q.beginCode(d, wrongCode(d))
			wantErr(t, "client", err, ErrWrongCode)
			if i == 1 {
				_, err = q.beginCode(d, d.State().Code)
				wantErr(t, "third of a source", err, ErrTries)
			}
			_, err = q.confirm(d, r)
			wantErr(t, "device", err, ErrProof)
		}
		if s := d.State(); s.Open || !s.Code.IsZero() {
			t.Errorf("after five: %+v", s)
		}
		_, err := p.at("192.0.2.99").beginCode(d, Passcode{"12345678"})
		wantErr(t, "closed", err, ErrRefused)
	})
	codeRule(t, "who may ask", func(t *testing.T, d *device) {
		for name, change := range map[string]func(*Caller){
			"not local": func(c *Caller) { c.Local = false }, "by QUIC": func(c *Caller) { c.TCP = false },
			"nobody": func(c *Caller) { c.Fingerprint = identity.Fingerprint{} },
		} {
			c := newPeer(1).caller
			change(&c)
			if d.Salt(c) != nil || d.Offers(c) != nil {
				t.Errorf("%s: is offered pairing", name)
			}
			_, err := d.BeginCode(t.Context(), c, CodeRequest{})
			wantErr(t, name, err, ErrRefused)
		}
		wantErr(t, "button", begin(d, newPeer(1)), ErrRefused)
	})
	codeRule(t, "malformed counts nothing", func(t *testing.T, d *device) {
		p := newPeer(1)
		for name, r := range map[string]CodeRequest{
			"no name": {Share: make([]byte, 65)}, "no share": {Name: "x"}, "off the curve": {Name: "x", Share: append([]byte{4}, make([]byte, 64)...)},
			"bad user": {Name: "x", User: "a\x00"},
		} {
			var bad *RequestError
			if _, err := d.BeginCode(t.Context(), p.caller, r); !errors.As(err, &bad) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, r := range []ConfirmRequest{{}, {Exchange: "x"}, {Exchange: strings.Repeat("x", 65), Confirm: make([]byte, 32)}} {
			var bad *RequestError
			if _, err := p.confirm(d, r); !errors.As(err, &bad) {
				t.Errorf("%+v: %v", r, err)
			}
		}
		if len(d.disk.stored) != 0 {
			t.Errorf("the disk has seen %v", d.disk.stored)
		}
	})
	codeRule(t, "nothing is said that is not counted", func(t *testing.T, d *device) {
		d.disk.broken = errors.New("disk full")
		reply, err := d.BeginCode(t.Context(), newPeer(1).caller, CodeRequest{Name: "x", Share: someShare(t)})
		if err == nil || reply.Share != nil || reply.Confirm != nil {
			t.Errorf("%v, said %+v", err, reply)
		}
	})
	codeRule(t, "another exchange", func(t *testing.T, d *device) {
		p := newPeer(1)
		r, err := p.beginCode(d, d.State().Code)
		wantErr(t, "begin", err, nil)
		elsewhere := *p
		elsewhere.caller.Exporter = make([]byte, ExporterBytes)
		for name, q := range map[string]*peer{"another client": newPeer(2), "another session": &elsewhere} {
			_, err := q.confirm(d, r)
			wantErr(t, name, err, ErrRefused)
		}
		_, err = d.Reveal(t.Context(), p.caller, RevealRequest{Exchange: r.Exchange, Nonce: make([]byte, NonceBytes)})
		wantErr(t, "reveal in code mode", err, ErrRefused)
		_, err = p.confirm(d, r)
		wantErr(t, "undisturbed", err, nil)
	})
}

func someShare(t testing.TB) []byte {
	t.Helper()
	a, err := NewCodeAsker(fingerprint(1), deviceKey, times32(1), Passcode{"12345678"}, make([]byte, SaltBytes))
	if err != nil {
		t.Fatal(err)
	}
	return a.Share()
}

func TestCodeTimes(t *testing.T) {
	codeRule(t, "5 s a step", func(t *testing.T, d *device) {
		p := newPeer(1)
		r, err := p.beginCode(d, d.State().Code)
		wantErr(t, "begin", err, nil)
		time.Sleep(StepDuration)
		_, err = p.confirm(d, r)
		wantErr(t, "late", err, ErrTimeout)
		r, err = p.beginCode(d, d.State().Code)
		wantErr(t, "begin again", err, nil)
		time.Sleep(StepDuration - tick)
		_, err = p.confirm(d, r)
		wantErr(t, "in time", err, nil)
	})
	codeRule(t, "20 s in all", func(t *testing.T, d *device) {
		d.disk.stall = 16 * time.Second
		p := newPeer(1)
		r, err := p.beginCode(d, d.State().Code)
		wantErr(t, "begin on a slow disk", err, nil)
		time.Sleep(4 * time.Second)
		_, err = p.confirm(d, r)
		wantErr(t, "after 20 s", err, ErrTimeout)
	})
	codeRule(t, "one at once", func(t *testing.T, d *device) {
		p, q := newPeer(1), newPeer(2)
		first, err := p.beginCode(d, d.State().Code)
		wantErr(t, "first", err, nil)
		_, err = q.beginCode(d, d.State().Code)
		wantErr(t, "another", err, ErrBusy)
		second, err := p.beginCode(d, d.State().Code)
		wantErr(t, "the same again", err, nil)
		_, err = p.confirm(d, first)
		wantErr(t, "the replaced one", err, ErrReplaced)
		_, err = p.confirm(d, second)
		wantErr(t, "the new one", err, nil)
	})
	codeRule(t, "a press closes, the code dies with the window", func(t *testing.T, d *device) {
		p, code := newPeer(1), d.State().Code
		r, err := p.beginCode(d, code)
		wantErr(t, "begin", err, nil)
		wantPress(t, d, PressClosed)
		_, err = p.confirm(d, r)
		wantErr(t, "confirm", err, ErrClosed)
		wantPress(t, d, PressOpened)
		_, err = p.beginCode(d, code)
		wantErr(t, "an old code", err, ErrWrongCode)
		time.Sleep(WindowDuration)
		if s := d.State(); s.Open || !s.Code.IsZero() || d.Salt(p.caller) != nil {
			t.Errorf("after the window: %+v", s)
		}
	})
	codeRule(t, "a refused grant leaves the code", func(t *testing.T, d *device) {
		taken := errors.New("taken")
		d.list.refuse = taken
		p, code := newPeer(1), d.State().Code
		for range 2 * TriesPerSource {
			r, err := p.beginCode(d, code)
			wantErr(t, "begin", err, nil)
			_, err = p.confirm(d, r)
			wantErr(t, "confirm", err, taken)
		}
		if d.State().Code != code || d.disk.n != 0 {
			t.Errorf("code gone or counted: %d", d.disk.n)
		}
	})
}

func TestWhichMode(t *testing.T) {
	for _, c := range []struct {
		configured []string
		display    bool
		want       string
	}{
		{[]string{"button", "code"}, true, "[code]"}, {[]string{"button", "code"}, false, "[button]"},
		{[]string{"code"}, false, "[]"}, {[]string{"code", "code"}, true, "[code]"}, {[]string{"button"}, true, "[button]"}, {[]string{"semaphore"}, true, "[]"},
	} {
		if got := fmt.Sprint(chosen(c.configured, c.display)); got != c.want {
			t.Errorf("%v, display %v: got %s, want %s", c.configured, c.display, got, c.want)
		}
	}
}

// Somebody in the middle has one session with each side; what they say to each
// other through him proves nothing to either, though the code is right.
func TestCodeIsBoundToTheSession(t *testing.T) {
	code, salt := Passcode{"12345678"}, make([]byte, SaltBytes)
	record := secretsOf(code.digits, deviceKey, salt).Record()
	for name, b := range map[string]binding{
		"session": {deviceKey, fingerprint(1), times32(9)}, "client": {deviceKey, fingerprint(2), times32(1)}, "device": {fingerprint(3), fingerprint(1), times32(1)},
	} {
		a, err := NewCodeAsker(fingerprint(1), deviceKey, times32(1), code, salt)
		if err != nil {
			t.Fatal(err)
		}
		v, err := spake2plus.Respond(record, b.parties(codeDomain), a.Share())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Answer(CodeReply{Exchange: "x", Share: v.Share(), Confirm: v.Confirm()}); !errors.Is(err, ErrWrongCode) {
			t.Errorf("%s is not bound: %v", name, err)
		}
	}
}

func TestPasscode(t *testing.T) {
	for _, s := range []string{"1234 5678", "12345678", " 1234-5678\n", "1 2 3 4 5 6 7 8", "1234\u20135678"} {
		if c, err := ParsePasscode(strings.TrimSuffix(s, "\n")); err != nil || c.Grouped() != "1234 5678" {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "1234567", "123456789", "1234567a", "１２３４５６７８", strings.Repeat(" ", 100) + "12345678"} {
		if _, err := ParsePasscode(s); !errors.Is(err, ErrNotCode) {
			t.Errorf("%q: %v", s, err)
		}
	}
	var log bytes.Buffer
	c := Passcode{"73519264"}
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "code", c, "state", State{Code: c})
	data, err := json.Marshal(State{Code: c})
	if err != nil {
		t.Fatal(err)
	}
	text := log.String() + string(data) + fmt.Sprintf("%v %+v %#v %s %d %x %q", c, State{Code: c}, c, c, c, c, c)
	if strings.Contains(text, "7351") {
		t.Errorf("a code printed: %s", text)
	}
	first := map[byte]int{}
	for range 5000 { // standard deviation 21
		first[randomPasscode().digits[0]]++
	}
	for digit := byte('0'); digit <= '9'; digit++ {
		if n := first[digit]; n < 350 || n > 650 {
			t.Errorf("%c begins %d of 5000 codes", digit, n)
		}
	}
}

// TestMillionCodes is a guesser beside an owner who keeps pressing, over 24
// virtual hours with a restart each hour.
func TestMillionCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := newDevice(t, byCode), newPeer(1)
		share := someShare(t)
		presses, holds, tries, stretched := 0, 0, 0, 0
		const asks = 1_000_000
		for i := range asks {
			if i%(asks/24) == 0 {
				stretched += d.spare.stretched
				again := newDevice(t, byCode, func(c *Config) { c.Counter = d.disk })
				again.disk = d.disk
				d = again
			}
			if i%2000 == 0 && !d.State().Open {
				switch d.Press() {
				case PressOpened:
					presses++
				case PressLocked:
					if i > asks/2 && holds == 0 {
						if _, err := d.LongPress(); err != nil {
							t.Fatal(err)
						}
						holds++
						presses++
					}
				}
			}
			p.caller.Source = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			reply, err := d.BeginCode(t.Context(), p.caller, CodeRequest{Name: "x", Share: share})
			if err == nil {
				tries++
				if _, err := p.confirm(d, ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, 32)}); err == nil {
					t.Fatal("a guess without a code got in")
				}
			}
			time.Sleep(24 * time.Hour / asks)
		}
		if tries > TriesPerWindow*presses || tries > TriesPerLife*(holds+1) || tries < TriesPerLife {
			t.Errorf("%d tries with %d presses and %d holds", tries, presses, holds)
		}
		if stretched > presses+24 {
			t.Errorf("%d codes stretched for %d presses and 24 starts", stretched, presses)
		}
	})
}

// The figures of the worked example that this package makes; package spake2plus
// checks the rest.
func TestWorkedExampleOfCodes(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ = bytes.Cut(page, []byte("## Pairing by code"))
	value := func(name string) []byte {
		m := regexp.MustCompile(`(?m)^` + name + ` += ((?:[0-9a-f]{2})+)$`).FindSubmatch(page)
		if m == nil {
			t.Fatalf("the page gives no %s", name)
		}
		b, err := hex.DecodeString(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := binding{device: identity.Fingerprint(value("Fd")), client: identity.Fingerprint(value("Fc")), exporter: value("E")}
	if got := stretch("12345678", b.device, value("S")); !bytes.Equal(got, value("K")) {
		t.Errorf("K is %x", got)
	}
	if got := b.parties(codeDomain).Context; !bytes.Equal(got, value("C")) {
		t.Errorf("C is %x", got)
	}
	for _, want := range []string{fmt.Sprintf("%d KiB", StretchKiB), fmt.Sprintf("%d passes", StretchPasses), fmt.Sprintf("%d lane", StretchLanes)} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if StretchKiB != 8192 || StretchPasses != 2 || StretchLanes != 1 || SaltBytes != 16 || codeDigits != 8 {
		t.Error("a figure of SECURITY has changed")
	}
}
