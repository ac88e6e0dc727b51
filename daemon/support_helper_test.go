package daemon

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// press holds a button of the simulated board, as a hand does.
func (d *device) press(t testing.TB, button string, hold time.Duration) {
	t.Helper()
	if err := d.sim.Press(context.Background(), button, hold); err != nil {
		t.Fatal(err)
	}
}

// pressed is press for a hand that takes no time; that presses become gestures is shown by
// TestSupportByHand.
func (d *device) pressed(button string, hold time.Duration) {
	d.gesture(hal.Event{Kind: hal.Press, Button: button, Held: hold})
}

// supportPhase waits until support is that far.
func (d *device) supportPhase(t testing.TB, want pairing.SupportPhase) pairing.SupportState {
	t.Helper()
	testnet.Eventually(t, "support is "+want.String(), func() error {
		if got := d.support.State().Phase; got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	return d.support.State()
}

// supportCode presses the support button and reads the display.
func (d *device) supportCode(t testing.TB) pairing.SupportCode {
	t.Helper()
	d.pressed(hal.ButtonSupport, 1500*time.Millisecond)
	state := d.supportPhase(t, pairing.SupportWaiting)
	d.displays(t, state.Code.Grouped())
	return state.Code
}

// displays waits until the display shows some words.
func (d *device) displays(t testing.TB, words string) {
	t.Helper()
	testnet.Eventually(t, "the display shows "+words, func() error {
		if shown := strings.Join(d.sim.State().Picture.Words, " | "); !strings.Contains(shown, words) {
			return fmt.Errorf("it shows %s", shown)
		}
		return nil
	})
}

// proveSupport does the hotline's half with a code in hand.
func (p *peer) proveSupport(typed string) (state api.Support, err error) {
	p.t.Helper()
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	salt := make([]byte, pairing.SaltBytes)
	if o := hello.Support; o != nil {
		if salt, err = hex.DecodeString(o.Salt); err != nil || o.KiB != pairing.StretchKiB || o.Digits != 6 {
			p.t.Fatalf("offer %+v: %v", o, err)
		}
	}
	code, err := pairing.ParseSupportCode(typed)
	if err != nil {
		return state, err
	}
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return state, err
	}
	asker, err := pairing.NewSupportAsker(p.key.Fingerprint(), p.Peer(), exporter, code, salt)
	if err != nil {
		return state, err
	}
	var c api.SupportChallenge
	if err := p.tryCall("POST", "/v1/support", api.SupportBegin{Share: hex.EncodeToString(asker.Share())}, &c); err != nil {
		return state, err
	}
	share, _ := hex.DecodeString(c.Share)
	confirm, _ := hex.DecodeString(c.Confirm)
	proof, err := asker.Answer(pairing.CodeReply{Exchange: c.Exchange, Share: share, Confirm: confirm})
	if err != nil { // an honest hotline stops here; this one goes on
		proof = pairing.ConfirmRequest{Exchange: c.Exchange, Confirm: make([]byte, 32)}
	}
	err = p.tryCall("POST", "/v1/support/confirm", api.SupportConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &state)
	return state, err
}

// hotline dials with a new key and proves the code that a press shows.
func (d *device) hotline(t testing.TB, path session.Path) *peer {
	t.Helper()
	p := d.dial(t, newKey(t), path)
	state, err := p.proveSupport(d.supportCode(t).Grouped())
	if err != nil {
		t.Fatal(err)
	}
	if state.State != "session" || !state.Mine || state.SecondsLeft < 1790 || state.Control != "no" || state.Device != "Front door" {
		t.Fatalf("%+v", state)
	}
	return p
}

// ended waits until a session is over.
func ended(t testing.TB, p *peer) {
	t.Helper()
	testnet.Eventually(t, "the session has ended", func() error {
		select {
		case <-p.Done():
			return nil
		default:
			return errors.New("it lives")
		}
	})
}

func (d *device) auditLines(t testing.TB) []acl.Entry {
	t.Helper()
	entries, err := d.store.Audit(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// followEvents collects what a user's event stream says, as "kind what".
func followEvents(t testing.TB, p *peer) <-chan string {
	t.Helper()
	r, err := http.NewRequest("GET", "https://device/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 256)
	over := make(chan struct{})
	go func() {
		defer close(over)
		buffer := make([]byte, 64<<10)
		text := ""
		for {
			n, err := answer.Body.Read(buffer)
			text += string(buffer[:n])
			for {
				line, rest, found := strings.Cut(text, "\n")
				if !found {
					break
				}
				text = rest
				var ev api.Event
				if data, is := strings.CutPrefix(line, "data: "); is && json.Unmarshal([]byte(data), &ev) == nil {
					told <- ev.Kind + " " + ev.What
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = answer.Body.Close(); p.Close(); <-over })
	return told
}

func wantEvents(t testing.TB, told <-chan string, want ...string) {
	t.Helper()
	var heard []string
	testnet.Eventually(t, strings.Join(want, ", "), func() error {
		for {
			select {
			case e := <-told:
				heard = append(heard, e)
				continue
			default:
			}
			break
		}
		for _, w := range want {
			if !slices.Contains(heard, w) {
				return fmt.Errorf("heard %v", heard)
			}
		}
		return nil
	})
}

func newShare(t testing.TB, d *device) []byte {
	t.Helper()
	code, err := pairing.ParseSupportCode("123456")
	if err != nil {
		t.Fatal(err)
	}
	a, err := pairing.NewSupportAsker(newKey(t).Fingerprint(), d.Fingerprint(), make([]byte, 32), code, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	return a.Share()
}
