package remote

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testface"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/session"
)

// presses holds the support button of a device's board.
func (d *device) presses(t *testing.T, hold time.Duration) {
	t.Helper()
	local := control.NewClient(filepath.Join(d.dir, "s"))
	defer local.Close()
	press := control.Press{Button: "support", HoldMillis: hold.Milliseconds()}
	if err := local.Post(t.Context(), control.PressRoute, press, nil); err != nil {
		t.Error(err)
	}
}

// reads waits until the display shows a call number and a code.
func (d *device) reads(t *testing.T) (number, code string) {
	t.Helper()
	testnet.Eventually(t, "a call number and a code", func() error {
		words, err := testface.Words(t.Context(), d.Status().Board.Web)
		if err != nil {
			return err
		}
		number, code = testface.Digits(words, "Call no."), testface.Digits(words, "Support code")
		if len(number) != attach.CallDigits || len(code) != 6 {
			return fmt.Errorf("it shows %s", strings.Join(words, " | "))
		}
		return nil
	})
	return number, code
}

func (b *base) asClientsKnowIt() client.Basestation {
	return client.Basestation{Addresses: []string{b.address}, Keys: b.Keys()}
}

func said(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

// helps is a hotline that types what it was read.
func (b *base) helps(t *testing.T, home *client.Home, number, code string, o client.DialOptions) (*client.Support, error) {
	t.Helper()
	o.Find, o.Log = -1, testLog(t)
	s, err := home.Support(t.Context(), client.SupportOptions{At: b.asClientsKnowIt(), Number: said(number), Code: said(code), Dial: o})
	if err == nil {
		t.Cleanup(s.End)
	}
	return s, err
}

func newHome(t *testing.T) *client.Home {
	t.Helper()
	home, err := client.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// From a press to a hotline that has never heard of the device, by each way there is.
func TestSupportFromElsewhere(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	for _, one := range []struct {
		name string
		o    client.DialOptions
		via  session.Via
	}{
		{"punched UDP", client.DialOptions{Paths: []session.Path{session.PathQUIC}}, session.ViaPunched},
		{"relay", client.DialOptions{RelayOnly: true}, session.ViaRelay},
	} {
		t.Run(one.name, func(t *testing.T) {
			d.presses(t, 1500*time.Millisecond)
			number, code := d.reads(t)
			home := newHome(t)
			s, err := b.helps(t, home, number, code, one.o)
			if err != nil {
				t.Fatal(err)
			}
			if s.Via() != one.via || s.Began.Device != "Front door" || s.Began.SecondsLeft < 1700 {
				t.Errorf("by %s, %+v", s.Via(), s.Began)
			}
			if _, err := s.Description(t.Context()); err != nil {
				t.Error(err)
			}
			if users, err := s.Users(t.Context()); err == nil && len(users) > 0 {
				t.Error("a hotline sees the users")
			}
			// The number leads nowhere any more.
			testnet.Eventually(t, "the number is over", func() error {
				if _, err := home.FindCall(t.Context(), b.asClientsKnowIt(), number, nil); !errors.Is(err, client.ErrNoCall) {
					return fmt.Errorf("found: %v", err)
				}
				return nil
			})
			// Another session of the same client works: `keyhole connect` and its sisters.
			goAway(t, home)
			again, err := dial(t, home, one.o)
			if err != nil {
				t.Fatal(err)
			}
			allowed := make(chan error, 1)
			go func() {
				_, err := again.AskControl(t.Context())
				allowed <- err
			}()
			testnet.Eventually(t, "the display asks", func() error {
				if state := d.Status().Support; state.Control != "asked" {
					return fmt.Errorf("%+v", state)
				}
				return nil
			})
			d.presses(t, 4*time.Second)
			if err := <-allowed; err != nil {
				t.Fatal(err)
			}
			tunnel, err := again.Connect(t.Context(), "echo", "tcp")
			if err != nil {
				t.Fatal(err)
			}
			defer tunnel.Close()
			wantEcho(t, tunnel, "hello")
			s.End()
			testnet.Eventually(t, "support has ended", func() error {
				if state := d.Status().Support; state.State != control.SupportIdle {
					return fmt.Errorf("%+v", state)
				}
				return nil
			})
			<-again.Done()
			if devices, err := home.Devices(); err != nil || len(devices) != 0 {
				t.Errorf("left in the address book: %v, %v", devices, err)
			}
		})
	}
}

// Who was not read the number is not introduced, though a code waits; who was is, and the
// wrong code is a no.
func TestSupportStrangers(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	home, id := newHome(t), d.ID()
	var no *client.NotIntroducedError
	if _, err := home.DialStranger(t.Context(), id, b.asClientsKnowIt(), nil, client.DialOptions{Find: -1}); !errors.As(err, &no) || no.Offline {
		t.Errorf("without a code: %v", err)
	}
	d.presses(t, 1500*time.Millisecond)
	number, code := d.reads(t)
	if _, err := home.DialStranger(t.Context(), id, b.asClientsKnowIt(), nil, client.DialOptions{Find: -1}); !errors.As(err, &no) || no.Offline {
		t.Errorf("who knows the id alone: %v", err)
	}
	wrong := []byte(code)
	wrong[0] = '0' + (wrong[0]-'0'+1)%10
	if _, err := b.helps(t, home, number, string(wrong), client.DialOptions{}); !errors.Is(err, client.ErrWrongSupportCode) {
		t.Errorf("a wrong code: %v", err)
	}
	other := []byte(number)
	other[0] = '0' + (other[0]-'0'+1)%10
	if _, err := b.helps(t, home, string(other), code, client.DialOptions{}); !errors.Is(err, client.ErrNoCall) {
		t.Errorf("a wrong number: %v", err)
	}
	if _, err := b.helps(t, home, number, code, client.DialOptions{}); err != nil {
		t.Errorf("after slips: %v", err)
	}
	// A basestation that leads to another device gains nothing: the code is not proven there.
	liar := startDevice(t, b)
	liar.waitAttached(t)
	liar.presses(t, 1500*time.Millisecond)
	elsewhere, _ := liar.reads(t)
	if _, err := b.helps(t, newHome(t), elsewhere, code, client.DialOptions{}); !errors.Is(err, client.ErrWrongSupportCode) {
		t.Errorf("at another device: %v", err)
	}
	d.presses(t, 300*time.Millisecond)
	testnet.Eventually(t, "a press ends it", func() error {
		if state := d.Status().Support; state.State != control.SupportIdle {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
}
