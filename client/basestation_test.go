package client

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

func rootKey(n byte) string {
	return attach.FormatRootKey(bytes.Repeat([]byte{n}, ed25519.PublicKeySize))
}

func TestBasestationIsLearntAndRefreshed(t *testing.T) {
	d := newTestDevice(t)
	h := d.paired()
	pass := func(epoch uint64) []byte {
		t.Helper()
		p, err := attach.NewPresencePass(d.key, epoch, h.Key().Fingerprint())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := pass(1)
	d.tell(&api.Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1)}, Presence: first})
	told := func() Basestation {
		t.Helper()
		conn := d.dial(h)
		if _, err := conn.Me(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		got, err := h.Lookup("front")
		if err != nil {
			t.Fatal(err)
		}
		return got.Basestation
	}
	got := told()
	if !slices.Equal(got.Addresses, []string{"base.example.net:7443"}) || !bytes.Equal(got.Presence, first) || len(got.roots()) != 1 {
		t.Errorf("%+v", got)
	}
	if data, err := os.ReadFile(h.bookPath()); err != nil || !strings.Contains(string(data), `"version": 2`) {
		t.Errorf("older programs would read this: %s, %v", data, err)
	}
	// A pass that says the same is no reason to write, and one of somebody else is none.
	d.tell(&api.Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1)}, Presence: pass(1)})
	if got = told(); !bytes.Equal(got.Presence, first) {
		t.Error("the pass was replaced by one of the same epoch")
	}
	d.tell(&api.Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1)}, Presence: []byte("no pass")})
	if got = told(); got.Presence != nil {
		t.Errorf("kept %q", got.Presence)
	}
	// A floor that was seen stays, whatever the device says later.
	roots := got.roots()
	roots[0].Floor = 7
	if err := h.raise(d.key.Fingerprint(), roots); err != nil {
		t.Fatal(err)
	}
	d.tell(&api.Basestation{Addresses: []string{"other.example.net:443"}, Keys: []string{rootKey(2), rootKey(1)}, Presence: pass(2)})
	got = told()
	if len(got.Presence) == 0 || bytes.Equal(got.Presence, first) || !slices.Equal(got.Floors, []uint64{0, 7}) || got.Addresses[0] != "other.example.net:443" {
		t.Errorf("%+v", got)
	}
	d.tell(nil)
	if got = told(); !got.IsZero() {
		t.Errorf("the device has none any more: %+v", got)
	}
	if data, err := os.ReadFile(h.bookPath()); err != nil || !strings.Contains(string(data), `"version": 1`) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestPairingLearnsTheBasestation(t *testing.T) {
	d := newTestDevice(t)
	d.tell(&api.Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1)}})
	h := newHome(t)
	d.window.Press()
	shown := make(chan string, 1)
	go d.pressWhenAsked(t.Context(), shown)
	p, err := h.Pair(t.Context(), d.address, PairOptions{User: "Alice", Name: "laptop", Dial: near, Check: func(g Digits) error {
		shown <- string(g.Check)
		return nil
	}})
	if err != nil || p.Device.Basestation.IsZero() {
		t.Fatalf("%+v, %v", p.Device, err)
	}
	if got, err := h.Lookup("front"); err != nil || got.Basestation.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// A paired device may be hostile too: what it says is bounded, and does not aim this
// machine at itself or at groups of others.
func TestOddBasestationsAreNotTaken(t *testing.T) {
	known := Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1)}, Floors: []uint64{4}}
	many := make([]string, maxBasestations+1)
	for i := range many {
		many[i] = fmt.Sprintf("192.0.2.%d:7443", i)
	}
	key := []string{rootKey(1)}
	for name, told := range map[string]api.Basestation{
		"none":           {Keys: key},
		"too many":       {Addresses: many, Keys: key},
		"no key":         {Addresses: many[:1]},
		"bad key":        {Addresses: many[:1], Keys: []string{"AAAA"}},
		"three keys":     {Addresses: many[:1], Keys: []string{rootKey(1), rootKey(2), rootKey(3)}},
		"one key twice":  {Addresses: many[:1], Keys: []string{rootKey(1), rootKey(1)}},
		"huge pass":      {Addresses: many[:1], Keys: key, Presence: make([]byte, maxPresenceBytes+1)},
		"own ports":      {Addresses: []string{"127.0.0.1:22", "[::1]:22", "[::ffff:127.0.0.1]:22", "0.0.0.0:22", "[::]:22"}, Keys: key},
		"groups":         {Addresses: []string{"224.0.0.251:5353", "[ff02::fb]:5353", "255.255.255.255:9"}, Keys: key},
		"not an address": {Addresses: []string{"base.example.net", "a b:1", strings.Repeat("a", 400) + ":1", "x:0", "\x1b[2J:1"}, Keys: key},
	} {
		if got, err := toldBasestation(&told, known, false); err == nil || !got.equal(known) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := toldBasestation(&api.Basestation{Addresses: []string{"127.0.0.1:7443", many[1], many[1]}, Keys: key}, known, false)
	if err != nil || !slices.Equal(got.Addresses, many[1:2]) || !slices.Equal(got.Floors, []uint64{4}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := toldBasestation(&api.Basestation{Addresses: []string{"127.0.0.1:7443"}, Keys: key}, known, true); err != nil || len(got.Addresses) != 1 {
		t.Errorf("all on one machine: %+v, %v", got, err)
	}
}
