package daemon

import (
	"crypto/rand"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A basestation can say what it likes about introductions: without a paired
// client's signature over this very one, the answer is no.
func TestForgedIntroductions(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	mallory, elsewhere := newKey(t), newKey(t)
	spied := netip.MustParseAddrPort("127.0.0.1:9")
	for name, forge := range map[string]func(hash attach.Hash) attach.Introduce{
		"a stranger": func(hash attach.Hash) attach.Introduce { return question(t, d.ID(), mallory, hash) },
		"another introduction's": func(hash attach.Hash) attach.Introduce {
			hash[0] ^= 1
			return question(t, d.ID(), k, hash)
		},
		"for another device": func(hash attach.Hash) attach.Introduce { return question(t, elsewhere.ID(), k, hash) },
		"another key": func(hash attach.Hash) attach.Introduce {
			in, other := question(t, d.ID(), k, hash), question(t, d.ID(), mallory, hash)
			in.Signature = other.Signature
			return in
		},
		"candidates added": func(hash attach.Hash) attach.Introduce {
			in := question(t, d.ID(), k, hash)
			in.Candidates = attach.EncodeAddresses([]netip.AddrPort{spied})
			return in
		},
		"candidates taken": func(hash attach.Hash) attach.Introduce {
			in := question(t, d.ID(), k, hash, spied)
			in.Candidates = nil
			return in
		},
		"no key": func(hash attach.Hash) attach.Introduce {
			in := question(t, d.ID(), k, hash)
			in.PublicKey = []byte{1, 2, 3}
			return in
		},
	} {
		h.next++
		var hash attach.Hash
		_, _ = rand.Read(hash[:])
		in := forge(hash)
		h.tell(attach.KindIntroduction, attach.NewIntroduction(h.next, hash, &in, netip.AddrPort{}))
		var answer attach.Answer
		h.hears(attach.KindAnswer, &answer)
		if answer.Request != h.next || answer.Verdict != attach.VerdictNo || !answer.Offer.IsZero() {
			t.Errorf("%s: answered %+v", name, answer)
		}
		h.tell(attach.KindRelay, attach.Relay{Request: h.next, Ticket: attach.NewTicket()})
	}
	wantNoLeg(t, h, d)
}

// An introduction is taken once, whatever number it comes back with.
func TestReplayedIntroduction(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	var hash attach.Hash
	_, _ = rand.Read(hash[:])
	in := question(t, d.ID(), k, hash)
	for n, want := range []attach.Verdict{attach.VerdictYes, attach.VerdictNo, attach.VerdictNo} {
		var answer attach.Answer
		h.tell(attach.KindIntroduction, attach.NewIntroduction(uint64(n+1), hash, &in, netip.AddrPort{}))
		h.hears(attach.KindAnswer, &answer)
		if answer.Verdict != want {
			t.Errorf("time %d: %v, want %v", n+1, answer.Verdict, want)
		}
	}
}

// Legs are opened for introductions that were answered with yes, and not more than
// there may be.
func TestUnwantedTickets(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	h.tell(attach.KindRelay, attach.Relay{Request: 77, Ticket: attach.NewTicket()})
	wantNoLeg(t, h, d)
	v := h.introduce(d.ID(), k, netip.AddrPort{})
	for range maxLegsEach + 5 {
		h.tell(attach.KindRelay, attach.Relay{Request: v.request, Ticket: attach.NewTicket()})
	}
	h.introduce(d.ID(), newKey(t), netip.AddrPort{}) // answered behind them
	for range maxLegsEach {
		select {
		case <-h.legs:
		case <-time.After(20 * time.Second):
			t.Fatal("a leg is missing")
		}
	}
	if s := d.Status().Basestation; s.Relayed != maxLegsEach || len(h.legs) != 0 {
		t.Errorf("%d legs, %d more came; want %d", s.Relayed, len(h.legs), maxLegsEach)
	}
}

// A basestation that floods gets a device that answers as fast as its limits say and
// keeps serving; an address that it names falsely is burdened with three packets
// of 33 bytes.
func TestFloodOfIntroductions(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	victim, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	before := runtime.NumGoroutine()
	accepted := 0
	for range 60 {
		if h.introduce(d.ID(), k, victim.LocalAddr().(*net.UDPAddr).AddrPort()).answer.Verdict == attach.VerdictYes {
			accepted++
		}
	}
	if accepted > peerBurst+10 { // and one each 2 s
		t.Errorf("%d introductions of one key were accepted", accepted)
	}
	if grown := runtime.NumGoroutine() - before; grown > 6*maxIntroductions {
		t.Errorf("%d goroutines more", grown)
	}
	packets, bytes := 0, 0
	buf := make([]byte, 2048)
	_ = victim.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, err := victim.Read(buf)
		if err != nil {
			break
		}
		packets++
		bytes += n
	}
	if packets > 3*accepted || bytes != packets*attach.PunchSize {
		t.Errorf("%d packets of %d bytes went to where nobody asked, for %d introductions", packets, bytes, accepted)
	}
	d.owner2(t)
}

// owner2 sees that the device still serves its own network.
func (d *device) owner2(t *testing.T) {
	t.Helper()
	p := d.member(t, "Carol", acl.RoleViewer, "tcp")
	p.call("GET", "/v1/me", nil, nil)
}

// Strangers may ask as often as their basestation lets them: it takes nothing from
// those who are on the list.
func TestStrangersDoNotSlowIntroductions(t *testing.T) {
	d, h := attached(t, "")
	k, mallory := d.enter(t, "Alice", acl.RoleOwner), newKey(t)
	for range 3 * allBurst {
		if v := h.introduce(d.ID(), mallory, netip.AddrPort{}); v.answer.Verdict != attach.VerdictNo {
			t.Fatalf("a stranger: %v", v.answer.Verdict)
		}
	}
	if v := h.introduce(d.ID(), k, netip.AddrPort{}); v.answer.Verdict != attach.VerdictYes {
		t.Errorf("the owner behind them: %v", v.answer.Verdict)
	}
}

// TCP addresses count with the client's signature for this introduction only.
func TestForgedCandidates(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	touched := listen(t, func(net.Conn) {})
	at := []netip.AddrPort{netip.MustParseAddrPort(touched.address)}
	v := h.introduce(d.ID(), k, at[0])
	var mine attach.Candidates
	h.hears(attach.KindCandidates, &mine)
	sign := func(transport attach.Transport, hash attach.Hash) attach.Offer {
		t.Helper()
		o, err := attach.SignOffer(k, hash, d.ID(), d.Fingerprint(), transport, at)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	added := sign(attach.TCP, v.hash)
	added.Candidates = append(added.Candidates, attach.EncodeAddresses([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")})...)
	for _, o := range []attach.Offer{
		mine.Offer,                       // the device's own, sent back
		sign(attach.TCP, attach.Hash{1}), // of another introduction
		sign(attach.UDP, v.hash),         // for something else
		added,                            // with one more
		{Transport: attach.TCP, Candidates: added.Candidates}, // by nobody
	} {
		h.tell(attach.KindCandidates, attach.Candidates{Request: v.request, Offer: o})
	}
	h.tell(attach.KindCandidates, attach.Candidates{Request: v.request + 5, Offer: sign(attach.TCP, v.hash)})
	h.introduce(d.ID(), newKey(t), netip.AddrPort{}) // answered behind them
	select {
	case <-touched.conns:
		t.Error("the device connects where it was not asked to")
	default:
	}
}

// Nothing that a basestation says breaks the device.
func TestOddMessages(t *testing.T) {
	d, h := attached(t, "")
	for kind := attach.Kind(64); kind < 80; kind++ {
		for _, body := range [][]byte{{0xa0}, {0xa1, 0x01, 0x00}, {0xff}, {}, []byte("\xa1\x01\x1b\xff\xff\xff\xff\xff\xff\xff\xff")} {
			err := attach.ErrBusy
			for err == attach.ErrBusy {
				h.do(func(now time.Duration) { err = h.node.Send(now, h.device.Index, kind, body) })
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	h.introduce(d.ID(), d.enter(t, "Alice", acl.RoleOwner), netip.AddrPort{})
	d.owner2(t)
}
