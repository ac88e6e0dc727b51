package attach

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

var stranger = netip.MustParseAddrPort("203.0.113.7:7777")

// Every kind of packet from an address that has proven nothing: the answers are
// never larger.
func TestAmplification(t *testing.T) {
	w := newWorld(t, 20)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	golden := goldenPackets(t)
	var attach []byte
	for _, f := range w.captured {
		if f.packet[0] == kindToNode {
			attach = f.packet
			break
		}
	}
	unknown := bytes.Clone(attach)
	unknown[1] ^= 0xff
	for name, p := range map[string][]byte{
		"LOCATE": golden["LOCATE"], "HELLO with a cookie of another": golden["HELLO"],
		"HELLO of another version": append([]byte{kindHello, 9}, golden["HELLO"][2:]...),
		"short LOCATE":             golden["LOCATE"][:100], "unknown index": unknown, "smallest sealed packet": unknown[:minPacket],
		"replayed ATTACH": attach, "WELCOME": golden["WELCOME"], "RESET": golden["RESET"], "RETRY": golden["RETRY"],
		"nothing": {}, "one byte": {kindHello}, "QUIC": bytes.Repeat([]byte{0xc0}, 1200),
	} {
		before := w.fromNode[stranger]
		w.node.Receive(w.now, stranger, p)
		w.run(10*time.Second, nil)
		if got := w.fromNode[stranger] - before; got > len(p) {
			t.Errorf("%s: %d bytes for %d", name, got, len(p))
		}
	}
	if w.node.Devices() != 1 || len(w.node.pending) != 0 {
		t.Errorf("%d devices, %d pending", w.node.Devices(), len(w.node.pending))
	}
}

// A packet that somebody saw and sent on from an address of his choice, before
// the original arrived, gets that address no more bytes than it cost; the device's
// next packet brings the link back.
func TestStolenPacketMovesNothingForLong(t *testing.T) {
	w := newWorld(t, 21)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	stolen, err := s.live.seal(beat{id: 99, interval: 30}.append(nil, framePing))
	if err != nil {
		t.Fatal(err)
	}
	w.node.Receive(w.now, stranger, stolen)
	peer, _ := w.node.Device(s.c.Key.Fingerprint())
	for range 20 {
		if err := w.node.Send(w.now, peer.Index, firstOwned, bytes.Repeat([]byte{0xf6}, 900)); errors.Is(err, ErrBusy) {
			break
		}
	}
	w.run(time.Second, nil)
	if got := w.fromNode[stranger]; got > len(stolen) {
		t.Errorf("%d bytes to a spoofed address for %d", got, len(stolen))
	}
	s.ping(w.now, 0)
	w.run(10*time.Second, nil)
	peer, _ = w.node.Device(s.c.Key.Fingerprint())
	if peer.Address != s.outside() || len(s.got) == 0 {
		t.Errorf("the node keeps %v; want %v; the device got %d messages", peer.Address, s.outside(), len(s.got))
	}
}

// Packets that were captured, sent again, cut short or changed in one bit do
// nothing to a live link.
func TestReplayedAndDamaged(t *testing.T) {
	w := newWorld(t, 22)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Minute, nil)
	before, _ := w.node.Device(s.c.Key.Fingerprint())
	asked, events := len(w.asked), len(s.events)
	for _, f := range append([]flyer(nil), w.captured...) {
		for _, p := range [][]byte{f.packet, f.packet[:len(f.packet)-1], f.packet[:1], flip(f.packet, len(f.packet)-1), flip(f.packet, 2)} {
			w.node.Receive(w.now, stranger, p)
			s.Receive(w.now, p)
		}
	}
	w.run(2*time.Minute, nil)
	after, ok := w.node.Device(s.c.Key.Fingerprint())
	if !ok || after != before || !s.attached() || len(w.asked) != asked || len(s.events) != events {
		t.Errorf("replay changed %+v to %+v (%v), %d to %d requests, events %+v", before, after, ok, asked, len(w.asked), s.events[events:])
	}
}

func flip(p []byte, at int) []byte {
	p = bytes.Clone(p)
	p[min(at, len(p)-1)] ^= 1
	return p
}

// Without a cookie for its address a HELLO costs the node no key operation and
// no memory.
func TestForgedCookie(t *testing.T) {
	w := newWorld(t, 23)
	public := mustPublic(t, w.nodeKey)
	good := w.node.cookies.issue(stranger.Addr())
	for name, c := range map[string]struct {
		from   netip.AddrPort
		cookie cookie
		pass   bool
	}{
		"own":                 {stranger, good, true},
		"own, another port":   {netip.AddrPortFrom(stranger.Addr(), 1), good, true},
		"another's":           {netip.MustParseAddrPort("203.0.113.8:7777"), good, false},
		"mapped":              {netip.MustParseAddrPort("[::ffff:203.0.113.7]:7777"), good, true},
		"zero":                {stranger, cookie{}, false},
		"one bit":             {stranger, cookie(flip(good[:], 5)), false},
		"slot of another":     {stranger, cookie(flip(good[:], 0)), false},
		"slot in the future":  {stranger, cookie(append([]byte{good[0] + 1}, good[1:]...)), false},
		"slot long gone by":   {stranger, cookie(append([]byte{good[0] - 100}, good[1:]...)), false},
		"slot before the one": {stranger, cookie(append([]byte{good[0] - 1}, good[1:]...)), false},
	} {
		before := len(w.node.pending)
		p, _, err := greet(w.bytes, public, hello{version: version, index: 5, cookie: c.cookie})
		if err != nil {
			t.Fatal(err)
		}
		w.node.Receive(w.now, c.from, p)
		if got := len(w.node.pending) > before; got != c.pass {
			t.Errorf("%s: handshake begun is %v, want %v", name, got, c.pass)
		}
	}
}

func TestCookieSlots(t *testing.T) {
	var c Cookies
	ip := stranger.Addr()
	if c.check(c.issue(ip), ip) {
		t.Error("the zero value accepts a cookie")
	}
	c.Rotate(255, Secret{1})
	first := c.issue(ip)
	c.Rotate(0, Secret{2})
	if !c.check(first, ip) || !c.check(c.issue(ip), ip) {
		t.Error("a cookie of this slot or the one before is refused")
	}
	c.Rotate(1, Secret{3})
	if c.check(first, ip) {
		t.Error("a cookie is good for a third slot")
	}
	second := c.issue(ip)
	c.Rotate(3, Secret{4})
	if c.check(second, ip) {
		t.Error("a cookie is good after a gap")
	}
}

// One that sits on the path and has keys, but none of ours.
func TestSwappedKeys(t *testing.T) {
	w := newWorld(t, 24)
	evil := Secret{66}
	for name, certificate := range map[string][]byte{
		"another root":                      certify(t, rootKey(t, 2), evil, 9, 9),
		"key changed":                       swapKey(w.certificate, mustPublic(t, evil)),
		"a bit changed":                     flip(w.certificate, 12),
		"signature cut":                     w.certificate[:len(w.certificate)-1],
		"retired":                           certify(t, w.root, evil, 2, 1),
		"the right one, but another's node": w.certificate,
	} {
		w := newWorld(t, 24)
		if name == "the right one, but another's node" {
			w.nodeKey = evil
		}
		w.startNode()
		w.node.c.Certificate = certificate
		s := w.link(newKey(t), func(c *LinkConfig) { c.Roots[0].Floor = 3 })
		w.run(2*time.Minute, nil)
		if s.attached() || len(w.asked) != 0 {
			t.Errorf("%s: attached", name)
		}
		if len(s.events) == 0 || s.events[0].Err == nil {
			t.Errorf("%s: no word about it: %+v", name, s.events)
		}
	}
}

func swapKey(certificate []byte, key [32]byte) []byte {
	c := bytes.Clone(certificate)
	copy(c[17:], key[:])
	return c
}

// Two roots at a time; each raises its own floor.
func TestRoots(t *testing.T) {
	a, b := rootKey(t, 1), rootKey(t, 2)
	roots := []Root{rootOf(a), rootOf(b)}
	if _, err := checkCertificate(roots, certify(t, b, Secret{1}, 7, 6)); err != nil {
		t.Error(err)
	}
	if _, err := checkCertificate(roots, certify(t, a, Secret{1}, 1, 0)); err != nil {
		t.Errorf("the floor of one root counts for another: %v", err)
	}
	if _, err := checkCertificate(roots, certify(t, b, Secret{1}, 6, 0)); err != nil {
		t.Errorf("generation at the floor: %v", err)
	}
	if _, err := checkCertificate(roots, certify(t, b, Secret{1}, 5, 5)); !errors.Is(err, ErrRetired) {
		t.Errorf("generation below the floor: %v", err)
	}
	if roots[0].Floor != 0 || roots[1].Floor != 6 {
		t.Errorf("floors %d, %d, want 0, 6", roots[0].Floor, roots[1].Floor)
	}
	if _, err := SignCertificate(newKey(t), Certificate{}); err == nil {
		t.Error("a root key that is not Ed25519 signs")
	}
}

// A signature of one handshake, or by another key, attaches nobody.
func TestForgedProof(t *testing.T) {
	k, other := newKey(t), newKey(t)
	good := func(hash [32]byte) Attach {
		a, err := proveDevice(k, hash, Factory{})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, forge := range map[string]func(hash [32]byte) any{
		"of another handshake": func([32]byte) any { return good([32]byte{1}) },
		"of another key": func(h [32]byte) any {
			a, _ := proveDevice(other, h, Factory{})
			a.PublicKey = good(h).PublicKey
			return a
		},
		"for another purpose": func(h [32]byte) any {
			a := good(h)
			a.Signature, _ = k.Sign(identity.PurposeAudit, h[:])
			return a
		},
		"no key":      func(h [32]byte) any { return Attach{Signature: good(h).Signature} },
		"not a map":   func([32]byte) any { return []int{1} },
		"long serial": func(h [32]byte) any { a := good(h); a.Serial = string(count('a', 65)); return a },
	} {
		w := newWorld(t, 25)
		s := w.link(k, nil)
		w.run(time.Minute, func() bool { return s.stage == StateGreeting })
		w.run(time.Minute, func() bool {
			if s.next == nil {
				return false
			}
			body, err := Encode(forge(s.next.hash))
			if err != nil {
				t.Fatal(err)
			}
			s.next.sender.queue[0].body = body
			return true
		})
		w.flying = nil // the honest ATTACH is lost
		w.run(3*time.Second, func() bool { return len(s.events) > 0 })
		if w.node.Devices() != 0 || len(w.asked) != 0 {
			t.Errorf("%s: attached", name)
		}
		var refused *RefusedError
		if len(s.events) == 0 || !errors.As(s.events[0].Err, &refused) || refused.Code != CodeRefused {
			t.Errorf("%s: the device heard %+v", name, s.events)
		}
	}
}

// A device believes no reset and no notice without its token.
func TestForgedReset(t *testing.T) {
	w := newWorld(t, 26)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	peer := s.live.peer
	for _, r := range []reset{
		{index: peer}, {index: peer, token: s.live.token, spread: 0}, {index: peer + 1, token: s.live.token},
	} {
		if r.token == s.live.token && r.index == peer {
			r.token[3] ^= 1
		}
		s.Receive(w.now, r.append(nil))
	}
	// What the node tells a stranger about another index is nothing for this one.
	w.node.Receive(w.now, stranger, head{kindToNode, peer ^ 1, 0}.append(make([]byte, 0, 64))[:minPacket])
	s.Receive(w.now, w.captured[len(w.captured)-1].packet)
	if !s.attached() {
		t.Error("a forged reset was believed")
	}
	s.Receive(w.now, reset{index: peer, token: s.live.token}.append(nil))
	if s.attached() {
		t.Error("the true reset was not")
	}
}

// Somebody with an address opens handshakes and never ends them.
func TestHandshakeFlood(t *testing.T) {
	w := newWorld(t, 27)
	w.node.c.MaxPending = 4 * maxPendingPerSource
	public := mustPublic(t, w.nodeKey)
	flood := func(from netip.AddrPort, count int) {
		for i := range count {
			p, _, err := greet(w.bytes, public, hello{version: version, index: uint64(i), cookie: w.node.cookies.issue(from.Addr())})
			if err != nil {
				t.Fatal(err)
			}
			w.node.Receive(w.now, from, p)
		}
	}
	flood(stranger, maxPendingPerSource+10)
	if got := len(w.node.pending); got != maxPendingPerSource {
		t.Errorf("%d handshakes of one source, want %d", got, maxPendingPerSource)
	}
	for i := range 6 {
		flood(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 114, byte(i)}), 7), maxPendingPerSource)
	}
	if got := len(w.node.pending); got != w.node.c.MaxPending {
		t.Errorf("%d handshakes, want %d", got, w.node.c.MaxPending)
	}
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(2*greetedTime, nil)
	if len(w.node.pending) != 0 || len(w.node.hellos) != 0 || len(w.node.sources) != 0 || w.node.Devices() != 1 {
		t.Errorf("after the flood: %d pending, %d hellos, %d sources, %d devices",
			len(w.node.pending), len(w.node.hellos), len(w.node.sources), w.node.Devices())
	}
}
