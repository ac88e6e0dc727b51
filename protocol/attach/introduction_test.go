package attach

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A broker joins a world's node, one device and its clients as a basestation, a daemon
// and an app would: just as much as an introduction needs.
type broker struct {
	w      *world
	device *simLink
	key    *identity.Key
}

var deviceCandidates = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:7443"), netip.MustParseAddrPort("[2001:db8::9]:7443")}

// newBroker attaches a device.
func newBroker(w *world) *broker {
	b := &broker{w: w, key: newKey(w.t)}
	w.node.c.Introduce = b.introduce
	w.node.c.Message = b.fromDevice
	b.device = w.link(b.key, func(c *LinkConfig) { c.Message = b.toDevice })
	w.mustAttach(b.device)
	return b
}

func (b *broker) introduce(now time.Duration, client Peer, i *Introduce) {
	p, ok := b.w.node.Device(b.key.Fingerprint())
	if !ok || i.Device != b.key.ID() {
		b.send(client.Index, KindNotIntroduced, NotIntroduced{Verdict: VerdictNo})
		return
	}
	b.send(p.Index, KindIntroduction, NewIntroduction(client.Index, client.Hash, i, client.Address))
}

func (b *broker) send(index uint64, k Kind, v any) {
	body, err := Encode(v)
	if err == nil {
		err = b.w.node.Send(b.w.now, index, k, body)
	}
	if err != nil && err != ErrUnknownPeer {
		b.w.t.Errorf("send %d: %v", k, err)
	}
}

// toDevice is the daemon: it lets everybody in whose signature is good.
func (b *broker) toDevice(k Kind, body []byte) {
	var i Introduction
	if k != KindIntroduction {
		return
	}
	if err := Decode(body, &i); err != nil {
		b.w.t.Error(err)
		return
	}
	client, err := i.Check(b.key.ID())
	if err != nil {
		b.w.t.Error(err)
		return
	}
	o, err := SignOffer(b.key, i.Hash, b.key.ID(), client, UDP, deviceCandidates)
	if err != nil {
		b.w.t.Error(err)
	}
	answer, err := Encode(Answer{Request: i.Request, Verdict: VerdictYes, Offer: o})
	if err != nil {
		b.w.t.Error(err)
	}
	b.w.later = append(b.w.later, func() { _ = b.device.Send(b.w.now, KindAnswer, answer) })
}

func (b *broker) fromDevice(_ time.Duration, from Peer, k Kind, body []byte) {
	var a Answer
	if k != KindAnswer || Decode(body, &a) != nil {
		return
	}
	b.send(a.Request, KindIntroduced, Introduced{Offer: a.Offer, Observed: Address{from.Address}, Ticket: Ticket{1}})
}

// A caller is a client that asks, and what came of it.
type caller struct {
	*simLink
	key   *identity.Key
	at    time.Duration // when it was introduced; 0: not yet
	yes   Introduced
	from  identity.Fingerprint
	wrong error
}

func (b *broker) call(k *identity.Key, change func(*LinkConfig)) *caller {
	c := &caller{key: k}
	c.simLink = b.w.link(k, func(l *LinkConfig) {
		l.Introduce = &Introduce{Device: b.key.ID(), Candidates: EncodeAddresses([]netip.AddrPort{netip.MustParseAddrPort("192.168.7.7:7")})}
		l.Message = func(kind Kind, body []byte) {
			if kind != KindIntroduced || c.at != 0 {
				return
			}
			if c.wrong = Decode(body, &c.yes); c.wrong != nil {
				return
			}
			hash, _ := c.Hash()
			if c.from, c.wrong = c.yes.Offer.CheckDevice(hash, b.key.ID(), k.Fingerprint()); c.wrong == nil {
				c.at = b.w.now
			}
		}
		if change != nil {
			change(l)
		}
	})
	return c
}

// Three round trips to the basestation, two with remembered node and cookie; the
// last of them waits for one to the device. A round trip is 20 ms here.
func TestIntroductionRoundTrips(t *testing.T) {
	w := newWorld(t, 60)
	b := newBroker(w)
	const trip = 20 * time.Millisecond
	var known Known
	for name, c := range map[string]struct {
		remembered bool
		trips      time.Duration
	}{"first": {false, 3 + 1}, "remembered": {true, 2 + 1}} {
		if c.remembered {
			first := b.call(newKey(t), nil)
			w.mustAttach(first.simLink)
			known = first.Known()
			first.Close(w.now)
		}
		w.run(time.Second, nil)
		began := w.now
		k := b.call(newKey(t), func(l *LinkConfig) { l.Known = known })
		if c.remembered {
			k.ip = w.links[len(w.links)-2].ip
			w.links[len(w.links)-2].cut = true
		}
		if !w.run(time.Minute, func() bool { return k.at != 0 }) {
			t.Fatalf("%s: not introduced: %v", name, k.wrong)
		}
		if got := k.at - began; got != c.trips*trip {
			t.Errorf("%s: introduced after %v, want %d round trips", name, got, c.trips)
		} else {
			t.Logf("%s: %d round trips, the last of which waits for one to the device", name, c.trips-1)
		}
		if k.from != b.key.Fingerprint() || len(k.yes.Offer.Addresses()) != 2 || k.yes.Observed.AddrPort != b.device.outside() || k.yes.Ticket != (Ticket{1}) {
			t.Errorf("%s: introduced to %v: %+v", name, k.from, k.yes)
		}
		known = Known{}
	}
}

// On a network that loses a tenth, doubles a tenth and reorders, at least 999 of 1,000
// introductions succeed within a client's patience of 30 s. A client may ask again
// when it heard nothing for 10 s, as one that dials does.
func TestIntroductionOnBadNetwork(t *testing.T) {
	const patience, again = 30 * time.Second, 10 * time.Second
	total := 100
	if os.Getenv("KEYHOLE_FULL") != "" {
		total = 10_000
	}
	keys := []*identity.Key{newKey(t), newKey(t), newKey(t)}
	failed, asked := 0, 0
	var slowest time.Duration
	for seed := range uint64(total) {
		w := newWorld(t, 1000+seed)
		b := newBroker(w)
		w.loss, w.double, w.spread = 0.10, 0.10, 80*time.Millisecond
		began := w.now
		introduced := false
		for try := 0; try < int(patience/again) && !introduced; try++ {
			asked++
			c := b.call(keys[try], nil)
			introduced = w.run(again, func() bool { return c.at != 0 })
			c.Close(w.now)
		}
		if !introduced {
			failed++
		}
		slowest = max(slowest, w.now-began)
	}
	t.Logf("%d of %d introduced, with %d questions; the slowest took %v", total-failed, total, asked, slowest)
	if failed*1000 > total {
		t.Errorf("%d of %d not introduced", failed, total)
	}
}

// A client that stays, for the sake of further tickets, stays the same one.
func TestClientStays(t *testing.T) {
	w := newWorld(t, 61)
	b := newBroker(w)
	c := b.call(newKey(t), nil)
	w.mustAttach(c.simLink)
	hash, _ := c.Hash()
	w.run(6*time.Hour, nil)
	if after, ok := c.Hash(); !ok || after != hash || len(w.node.clients) != 1 {
		t.Errorf("after six hours: %v, the same introduction: %v, %d clients", c.State(), after == hash, len(w.node.clients))
	}
}

// What is relayed cannot be changed on the way, nor used for another.
func TestForgedOffers(t *testing.T) {
	device, client, other := newKey(t), newKey(t), newKey(t)
	hash := [32]byte{1}
	good, err := SignOffer(device, hash, device.ID(), client.Fingerprint(), UDP, deviceCandidates)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := good.CheckDevice(hash, device.ID(), client.Fingerprint()); err != nil || f != device.Fingerprint() {
		t.Fatalf("a good offer: %v", err)
	}
	swapped, err := SignOffer(other, hash, other.ID(), client.Fingerprint(), UDP, deviceCandidates)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Offer)) Offer {
		o := good
		o.Candidates = append([][]byte(nil), good.Candidates...)
		f(&o)
		return o
	}
	for name, c := range map[string]struct {
		offer Offer
		hash  [32]byte
		to    identity.Fingerprint
	}{
		"another introduction": {good, [32]byte{2}, client.Fingerprint()},
		"for another client":   {good, hash, other.Fingerprint()},
		"candidate added":      {change(func(o *Offer) { o.Candidates = append(o.Candidates, []byte{203, 0, 113, 7, 0, 7}) }), hash, client.Fingerprint()},
		"candidate changed":    {change(func(o *Offer) { o.Candidates[0] = []byte{203, 0, 113, 7, 0, 7} }), hash, client.Fingerprint()},
		"candidate dropped":    {change(func(o *Offer) { o.Candidates = o.Candidates[:1] }), hash, client.Fingerprint()},
		"two in one": {change(func(o *Offer) {
			o.Candidates = [][]byte{append(append([]byte(nil), o.Candidates[0]...), o.Candidates[1]...)}
		}), hash, client.Fingerprint()},
		"as TCP":       {change(func(o *Offer) { o.Transport = TCP }), hash, client.Fingerprint()},
		"key swapped":  {swapped, hash, client.Fingerprint()},
		"no key":       {change(func(o *Offer) { o.PublicKey = nil }), hash, client.Fingerprint()},
		"no signature": {change(func(o *Offer) { o.Signature = nil }), hash, client.Fingerprint()},
		"nothing":      {Offer{}, hash, client.Fingerprint()},
		"a client's":   {mustOffer(t, client, hash, device, TCP), hash, client.Fingerprint()},
	} {
		if _, err := c.offer.CheckDevice(c.hash, device.ID(), c.to); err == nil {
			t.Errorf("%s: believed", name)
		}
	}

	o := mustOffer(t, client, hash, device, TCP)
	public := publicOf(t, client)
	if err := o.CheckClient(hash, device.Fingerprint(), public); err != nil {
		t.Errorf("a client's offer: %v", err)
	}
	if len(o.PublicKey) != 0 {
		t.Error("a client's offer carries its key")
	}
	if o.CheckClient(hash, other.Fingerprint(), public) == nil || o.CheckClient(hash, device.Fingerprint(), publicOf(t, other)) == nil ||
		o.CheckClient([32]byte{9}, device.Fingerprint(), public) == nil {
		t.Error("a client's offer is believed elsewhere")
	}
}

func mustOffer(t *testing.T, client *identity.Key, hash [32]byte, device *identity.Key, tr Transport) Offer {
	t.Helper()
	o, err := SignOffer(client, hash, device.ID(), device.Fingerprint(), tr, deviceCandidates)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func publicOf(t *testing.T, k *identity.Key) []byte {
	t.Helper()
	i, err := proveClient(k, [32]byte{}, Introduce{Device: k.ID()})
	if err != nil {
		t.Fatal(err)
	}
	return i.PublicKey
}

func TestPresencePass(t *testing.T) {
	device, client, other := newKey(t), newKey(t), newKey(t)
	pass, err := NewPresencePass(device, 5, client.Fingerprint())
	if err != nil || len(pass) > maxPass {
		t.Fatalf("%d bytes, %v", len(pass), err)
	}
	if epoch, err := CheckPresencePass(pass, device.ID(), client.Fingerprint()); err != nil || epoch != 5 {
		t.Errorf("epoch %d, %v", epoch, err)
	}
	foreign, err := NewPresencePass(other, 5, client.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pass   []byte
		client identity.Fingerprint
	}{
		"another client's": {pass, other.Fingerprint()}, "another device's": {foreign, client.Fingerprint()}, "cut": {pass[:len(pass)-1], client.Fingerprint()},
		"another epoch": {flip(pass, 8), client.Fingerprint()}, "another version": {flip(pass, 0), client.Fingerprint()},
		"length beyond": {flip(pass, 9), client.Fingerprint()}, "empty": {nil, client.Fingerprint()}, "key changed": {flip(pass, 40), client.Fingerprint()},
	} {
		if _, err := CheckPresencePass(c.pass, device.ID(), c.client); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A client with the longest key that fits is introduced; one with a longer key is told
// so before it sends anything.
func TestLongKeys(t *testing.T) {
	for bits, fits := range map[int]bool{2048: true, 4096: true, 4608: false} {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		k, err := identity.New(private)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, 62)
		b := newBroker(w)
		if !fits {
			_, err := NewLink(LinkConfig{
				Key: k, Roots: []Root{rootOf(w.root)}, Basestations: []netip.AddrPort{nodeAddress}, Introduce: &Introduce{Device: b.key.ID()},
				Send: func(netip.AddrPort, []byte) {},
			})
			if !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrLinkConfig) {
				t.Errorf("RSA of %d bits: %v, want ErrTooLarge", bits, err)
			}
			continue
		}
		c := b.call(k, func(l *LinkConfig) { l.Introduce.Candidates = nil })
		if !w.run(5*time.Second, func() bool { return c.at != 0 }) {
			t.Errorf("RSA of %d bits: not introduced", bits)
		}
	}
}
