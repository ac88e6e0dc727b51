package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// PairOptions say who wants to pair. The zero value asks under the names of this
// machine and shows nothing, which is right only where the device's id is known.
type PairOptions struct {
	User string // name of the person; "": as the operating system has it
	Name string // name of this client's key; "": of this machine

	// Check is given the digits that the device shows as well, and must not wait
	// for the person: the device does not wait for us. An error ends the pairing.
	// After it the press at the device is waited for.
	Check func(Digits) error

	// Code is asked for the code on the device's display or on its label, where the
	// device takes one; it may wait for the person. Case, spaces and dashes do not
	// matter; "" compares digits instead, where the device takes that. nil: digits
	// are compared, or the pairing ends with ErrCodeNeeded.
	Code func(context.Context, Wanted) (string, error)

	Dial DialOptions // how to look for the device; without an invite, pairing is by TCP and on its network, whatever is said here

	codeOnly bool // the code is known: digits are not compared
}

// Wanted is what would do to pair with a device now.
type Wanted struct {
	Display bool // the code on its display
	Label   bool // the code on its label
	Digits  bool // comparing digits
}

// Digits are what a person compares before pressing the button.
type Digits struct {
	Check  pairing.Check // six digits
	Device string        // what the device calls itself
	Trust  Trust         // why the key is believed; below TrustID only the digits prove it
}

// Paired is the result of pairing.
type Paired struct {
	Device  Device // as it is in the address book now
	Trust   Trust
	Already bool   // this key was paired before, or has no need to
	Kind    string // why there was no need: "authority" of a certificate, "central" of the vendor; "" for a paired key
}

// ErrWindowClosed means that the device does not take new clients now.
var ErrWindowClosed = errors.New("the device is not open for pairing")

// ErrNoMode means that pairing is open, but not in a way that this client knows.
var ErrNoMode = errors.New("the device pairs in no way that this client knows")

// Pair becomes a user of a device whose pair button must have been pressed
// before, by code, label or button as the device offers, and puts it into the address
// book. A whole id as target says which key to expect, so that the digits need no
// comparing. A keyhole: link says that too, and brings what is to be proven; an
// invite needs no button and is good from anywhere.
func (h *Home) Pair(ctx context.Context, target string, o PairOptions) (Paired, error) {
	if pairing.IsLink(target) {
		return h.pairLink(ctx, target, o)
	}
	t, err := ParseTarget(target)
	if err != nil {
		return Paired{}, err
	}
	if t.Name != "" {
		c, err := h.plan(target) // pairing again with one that is known
		if err != nil {
			return Paired{}, err
		}
		return h.pair(ctx, c, o)
	}
	return h.pair(ctx, h.first(t), o)
}

// PairFound pairs with a device that Find has heard. Its id came from the
// network, so the digits must be compared.
func (h *Home) PairFound(ctx context.Context, f Found, o PairOptions) (Paired, error) {
	c := h.first(Target{ID: f.ID})
	if c.trust != TrustPinned {
		c.trust = TrustHeard
	}
	c.device.Name = f.Name
	for _, a := range f.Addresses {
		if s := a.String(); !slices.Contains(c.addresses, s) {
			c.addresses = append(c.addresses, s)
		}
	}
	return h.pair(ctx, c, o)
}

// first is the call of a first contact: with an id the key is pinned, with a bare
// address it is not, whatever device had that address before.
func (h *Home) first(t Target) call {
	if t.ID == "" {
		return strange(t)
	}
	c := strange(t)
	if devices, err := h.Devices(); err == nil {
		if d, err := lookup(devices, "", Target{ID: t.ID}); err == nil {
			known := callOf(d)
			known.addresses = append(c.addresses, known.addresses...)
			return known
		}
	}
	return c
}

func (h *Home) pair(ctx context.Context, c call, o PairOptions) (Paired, error) {
	if err := o.complete(); err != nil {
		return Paired{}, err
	}
	o.Dial.Paths, o.Dial.Tunnels = []session.Path{session.PathTCP}, false
	o.Dial.NoBasestation, o.Dial.RelayOnly = true, false
	conn, err := h.dial(ctx, c, o.Dial)
	if err != nil {
		return Paired{}, err
	}
	defer conn.Close()
	hello, err := conn.Hello(ctx)
	if err != nil {
		return Paired{}, err
	}
	if !hello.Pairing.Open {
		return h.again(ctx, conn, c)
	}
	granted, proven, err := conn.prove(ctx, o, hello.Pairing.Modes)
	if err != nil {
		return Paired{}, err
	}
	paired, err := h.enter(ctx, conn, c, granted.Device, granted.User, granted.Role, false)
	if err == nil && proven && !paired.Device.Checked {
		paired.Device.Checked = true // only the device with this display could prove the code
		err = h.Confirm(paired.Device)
	}
	return paired, err
}

// again is for a device that knows this key already: its address book entry may
// have been lost.
func (h *Home) again(ctx context.Context, conn *Conn, c call) (Paired, error) {
	me, err := conn.Me(ctx)
	if api.IsCode(err, api.CodeForbidden) {
		return Paired{}, ErrWindowClosed
	}
	if err != nil {
		return Paired{}, err
	}
	description, err := conn.Description(ctx)
	if err != nil {
		return Paired{}, err
	}
	paired, err := h.enter(ctx, conn, c, description, me.User, me.Role, true)
	paired.Kind = me.Kind
	return paired, err
}

// enter writes the device into the address book. What was typed as a host name
// stays beside the address that it meant today.
func (h *Home) enter(ctx context.Context, conn *Conn, c call, is api.Device, user, role string, already bool) (Paired, error) {
	d := Device{
		Fingerprint: conn.Peer(), ID: conn.Peer().ID(), Name: clip(is.Name), Product: clip(is.Product),
		User: clip(user), Role: clip(role), Checked: conn.trust >= TrustID,
	}
	near := conn.Via() == session.ViaDirect // else it is an address of a router, or of a relay
	if near {
		d.Addresses = []string{conn.RemoteAddr().String()}
	}
	keep := c.addresses
	if old, known := h.byFingerprint(d.Fingerprint); known {
		d.Checked = d.Checked && old.Checked || conn.trust == TrustID
		keep = append(slices.Clone(keep), old.Addresses...)
		d.Basestation = old.Basestation
	}
	for _, a := range keep {
		if !slices.Contains(d.Addresses, a) {
			d.Addresses = append(d.Addresses, a)
		}
	}
	d.Addresses = d.Addresses[:min(len(d.Addresses), maxAddresses)]
	if err := h.Remember(d); err != nil {
		return Paired{}, fmt.Errorf("paired, but not remembered: %w", err)
	}
	if near {
		if err := h.reached(d.Fingerprint, d.Addresses[0]); err != nil {
			return Paired{}, err
		}
	}
	// Where it can be asked for from elsewhere is asked now, while it is near. It
	// is no reason to fail: each later dial asks again.
	asking, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	if _, err := conn.Me(asking); err != nil {
		conn.log.Warn("the device does not tell of its basestation", "error", err)
	} else if now, known := h.byFingerprint(d.Fingerprint); known {
		d = now
	}
	return Paired{Device: d, Trust: conn.trust, Already: already}, nil
}

// Confirm notes that the device has proven to be the one that is meant: a person
// has compared digits, or it knew the code on its display.
func (h *Home) Confirm(d Device) error {
	d.Checked = true
	return h.Remember(d)
}

// button runs the client's half of button mode.
func (c *Conn) button(ctx context.Context, o PairOptions) (api.Paired, error) {
	exporter, err := c.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return api.Paired{}, err
	}
	asker, err := pairing.NewAsker(c.home.key.Fingerprint(), c.Peer(), exporter)
	if err != nil {
		return api.Paired{}, err
	}
	var challenge api.ButtonChallenge
	begin := api.ButtonBegin{Commitment: hex.EncodeToString(asker.Commitment()), Name: o.Name, User: o.User}
	if err := c.Call(ctx, http.MethodPost, "/v1/pair/button", begin, &challenge); err != nil {
		return api.Paired{}, err
	}
	nonce, err := hex.DecodeString(challenge.Nonce)
	if err != nil {
		return api.Paired{}, errors.New("the device's answer is not understood: its nonce is not hexadecimal")
	}
	check, reveal, err := asker.Answer(pairing.BeginReply{Exchange: challenge.Exchange, Nonce: nonce})
	if err != nil {
		return api.Paired{}, err
	}
	if o.Check != nil {
		if err := o.Check(Digits{Check: check, Device: challenge.Device, Trust: c.trust}); err != nil {
			return api.Paired{}, err
		}
	}
	var granted api.Paired
	err = c.Call(ctx, http.MethodPost, "/v1/pair/button/reveal",
		api.ButtonReveal{Exchange: reveal.Exchange, Nonce: hex.EncodeToString(reveal.Nonce)}, &granted)
	return granted, err
}

// complete fills in and checks the names before the device is bothered.
func (o *PairOptions) complete() error {
	person, machine := systemNames()
	if o.User == "" {
		o.User = person
	}
	if o.Name == "" {
		o.Name = machine
	}
	if _, err := pairing.CleanName(o.Name); err != nil {
		return &NameError{"name of this client", o.Name, err}
	}
	if o.User == "" {
		return nil // the device finds one
	}
	if _, err := pairing.CleanName(o.User); err != nil {
		return &NameError{"name of the person", o.User, err}
	}
	return nil
}

// A NameError says that a name cannot be used for pairing.
type NameError struct {
	What, Name string
	Err        error
}

func (e *NameError) Error() string { return fmt.Sprintf("%s %q: %v", e.What, clip(e.Name), e.Err) }

func (e *NameError) Unwrap() error { return e.Err }

// systemNames are names that a person recognises, where the system has usable ones.
func systemNames() (person, machine string) {
	if u, err := user.Current(); err == nil {
		full, _, _ := strings.Cut(u.Name, ",")
		for _, name := range []string{strings.TrimSpace(full), u.Username} {
			if clean, err := pairing.CleanName(name); err == nil {
				person = clean
				break
			}
		}
	}
	if host, err := os.Hostname(); err == nil {
		if clean, err := pairing.CleanName(host); err == nil {
			return person, clean
		}
	}
	return person, "keyhole client"
}

// clip keeps a device's text within what the address book holds.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxTextBytes-4)], "")
}
