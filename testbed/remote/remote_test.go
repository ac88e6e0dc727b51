package remote

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// From pairing at home to a tunnel from elsewhere, by each way there is.
func TestFromElsewhere(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	home := d.pair(t, "Alice")
	goAway(t, home)
	if _, err := dial(t, home, client.DialOptions{NoBasestation: true}); err == nil {
		t.Fatal("the device was reached without its basestation")
	}
	for _, one := range []struct {
		name string
		o    client.DialOptions
		via  session.Via
		path session.Path
	}{
		{"punched UDP", client.DialOptions{Paths: []session.Path{session.PathQUIC}}, session.ViaPunched, session.PathQUIC},
		{"relay", client.DialOptions{RelayOnly: true}, session.ViaRelay, session.PathTCP},
		{"anyhow", client.DialOptions{}, "", ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			goAway(t, home)
			c, err := dial(t, home, one.o)
			if err != nil {
				t.Fatal(err)
			}
			if one.via != "" && (c.Via() != one.via || c.Path() != one.path) {
				t.Errorf("by %s over %s, want %s over %s", c.Via(), c.Path(), one.via, one.path)
			}
			me, err := c.Me(t.Context())
			if err != nil || me.User != "Alice" || one.via != "" && me.Via != string(one.via) {
				t.Errorf("me %+v, %v", me, err)
			}
			s, err := c.Connect(t.Context(), "echo", "tcp")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			wantEcho(t, s, "hello")
			c.Close()
		})
	}
	testnet.Eventually(t, "no relayed connection is left", func() error {
		if n := d.Status().Basestation.Relayed; n != 0 {
			return errors.New("some are")
		}
		return nil
	})
}

// A revocation from at home cuts who is elsewhere, tunnels included, and from then
// on he hears what strangers hear.
func TestRevokedElsewhere(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	owner, guest := d.pair(t, "Alice"), d.pair(t, "Bob")
	atHome, err := owner.Dial(t.Context(), "Front door", client.DialOptions{Find: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer atHome.Close()
	if _, err := atHome.SetRole(t.Context(), "Bob", "admin"); err != nil {
		t.Fatal(err)
	}
	goAway(t, guest)
	for _, o := range []client.DialOptions{{Paths: []session.Path{session.PathQUIC}}, {RelayOnly: true, Tunnels: true}} {
		c, err := dial(t, guest, o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Connect(t.Context(), "echo", "tcp")
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, s, "hello")
		defer func() {
			_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("a tunnel goes on")
			}
			<-c.Done()
		}()
	}
	revoked, err := atHome.Revoke(t.Context(), "Bob")
	if err != nil || revoked.SessionsClosed < 2 {
		t.Fatalf("%+v, %v", revoked, err)
	}
	_, err = dial(t, guest, client.DialOptions{})
	var no *client.NotIntroducedError
	if !errors.As(err, &no) || no.Offline {
		t.Errorf("afterwards he is told: %v", err)
	}
}

// The basestation restarts: who is connected directly does not notice, the device
// is back by itself, and only a presence pass tells that it was away.
func TestBasestationRestarts(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	home := d.pair(t, "Alice")
	goAway(t, home)
	c, err := dial(t, home, client.DialOptions{Paths: []session.Path{session.PathQUIC}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Via() == session.ViaRelay {
		t.Fatal("it is relayed")
	}
	s, err := c.Connect(t.Context(), "echo", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.stop()
	wantEcho(t, s, "while it is away")
	b.start()
	began := time.Now()
	d.waitAttached(t)
	testnet.Eventually(t, "introduced again", func() error {
		goAway(t, home)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		again, err := home.Dial(ctx, "Front door", client.DialOptions{Find: -1})
		if err == nil {
			again.Close()
		}
		return err
	})
	t.Logf("introduced again %v after the basestation was back", time.Since(began).Round(10*time.Millisecond))
	wantEcho(t, s, "and after it is back")
}

// Presence: the paired client hears since when the device is away, from the
// basestation; with the epoch of a revocation it hears it no more.
func TestPresenceFromElsewhere(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	home := d.pair(t, "Alice")
	goAway(t, home)
	before := time.Now().Add(-time.Minute)
	d.stop()
	var no *client.NotIntroducedError
	testnet.Eventually(t, "offline is told", func() error {
		_, err := dial(t, home, client.DialOptions{})
		if !errors.As(err, &no) || !no.Offline {
			return errors.Join(errors.New("not told"), err)
		}
		return nil
	})
	if no.Since.Before(before) || no.Since.After(time.Now().Add(time.Minute)) {
		t.Errorf("offline since %v", no.Since)
	}
	// Without the pass nothing is told.
	entry, err := home.Only()
	if err != nil {
		t.Fatal(err)
	}
	entry.Basestation.Presence = nil
	if err := home.Remember(entry); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, home, client.DialOptions{}); !errors.As(err, &no) || no.Offline {
		t.Errorf("without a pass: %v", err)
	}
}

// What came by a basestation on this very machine may not pair.
func TestNobodyPairsFromElsewhere(t *testing.T) {
	b := startBase(t)
	d := startDevice(t, b)
	d.waitAttached(t)
	home := d.pair(t, "Alice")
	goAway(t, home)
	c, err := dial(t, home, client.DialOptions{RelayOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var hello api.Hello
	if err := c.Call(t.Context(), "GET", "/v1/hello", nil, &hello); err != nil || len(hello.Pairing.Modes) != 0 {
		t.Errorf("%+v, %v", hello, err)
	}
}
