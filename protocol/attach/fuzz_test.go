package attach

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

func seeds(f *testing.F) {
	for _, p := range goldenPackets(f) {
		f.Add(p)
	}
}

// What parses as a packet encodes to the same bytes.
func FuzzPackets(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(name string, err error, again []byte) {
			if err == nil && !bytes.Equal(again, b) {
				t.Errorf("%s %x encodes to %x", name, b, again)
			}
		}
		if l, err := parseLocate(b); err == nil {
			same("LOCATE", err, l.append(nil))
		}
		if l, err := parseLocated(b); err == nil {
			same("LOCATED", err, l.append(nil))
		}
		if h, err := parseHello(b); err == nil {
			same("HELLO", err, h.append(nil))
		}
		if w, err := parseWelcome(b); err == nil {
			same("WELCOME", err, w.append(nil))
		}
		if r, err := parseRetry(b); err == nil {
			same("RETRY", err, r.append(nil))
		}
		if r, err := parseReset(b); err == nil {
			same("RESET", err, r.append(nil))
		}
		for _, kind := range []byte{kindToNode, kindFromNode} {
			if h, err := parseHead(kind, b); err == nil {
				same("head", err, append(h.append(nil), b[packetHead:]...))
			}
		}
		if c, err := parseCertificateBody(b); err == nil {
			same("certificate", err, c.appendBody(nil))
		}
		if a, err := parseAddress(b); err == nil {
			same("address", err, appendAddress(nil, a))
		}
	})
}

// What parses as a frame encodes to the same bytes.
func FuzzFrames(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseBeat(b); err == nil && !bytes.Equal(p.append(nil, b[0]), b) {
			t.Errorf("beat %x", b)
		}
		if c, err := parseControl(b); err == nil && !bytes.Equal(c.append(nil), b) {
			t.Errorf("control %x", b)
		}
		if a, err := parseAck(b); err == nil && !bytes.Equal(a.append(nil), b) {
			t.Errorf("ack %x", b)
		}
		if r, err := parseClose(b); err == nil && !bytes.Equal([]byte{frameClose, byte(r)}, b) {
			t.Errorf("close %x", b)
		}
	})
}

// What decodes as a body encodes to one form that decodes to the same value.
func FuzzBodies(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []any{
			new(Attach), new(Introduce), new(Attached), new(Refused), new(Observed), new(Relocate), new(Introduction), new(Answer), new(Introduced),
			new(NotIntroduced), new(Candidates), new(Relay), new(Event), new(EventTaken), new(Presence), new(TicketRequest), new(TicketGranted),
			new(Call), new(CallNumber), new(Find), new(Found),
		} {
			if Decode(b, v) != nil {
				continue
			}
			again, err := encoding.Marshal(v)
			if err != nil {
				t.Fatalf("%T of %x: %v", v, b, err)
			}
			if len(again) > MaxBody {
				continue // cannot be: see the limits, but not this target's subject
			}
			w := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := Decode(again, w); err != nil {
				t.Fatalf("%T of %x does not decode again: %v", v, b, err)
			}
			third, _ := encoding.Marshal(w)
			if !bytes.Equal(again, third) {
				t.Errorf("%T of %x: %x, then %x", v, b, again, third)
			}
			switch v := v.(type) {
			case *Introduce:
				_, _ = CheckIntroduction([32]byte{}, v)
			case *Introduction:
				_, _ = v.Check("abcdefghijklmnopqrstuvwxyz")
			case *Answer:
				_, _ = v.Offer.CheckDevice([32]byte{}, "abcdefghijklmnopqrstuvwxyz", identity.Fingerprint{})
			}
		}
	})
}

// What parses outside of a link encodes to the same bytes; of a stream no byte is
// read that belongs to the next layer.
func FuzzStreams(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePunch(b); err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Errorf("punch %x", b)
		}
		_, _ = CheckPresencePass(b, "abcdefghijklmnopqrstuvwxyz", identity.Fingerprint{})
		r := bytes.NewReader(b)
		if a, err := ReadSeen(r); err == nil && !bytes.Equal(AppendSeen(nil, a), b[:len(b)-r.Len()]) {
			t.Errorf("seen %x", b)
		}
		r = bytes.NewReader(b)
		k, err := ReadStreamKind(r)
		if err != nil {
			return
		}
		ticket, err := ReadPreface(r, k)
		if err != nil {
			return
		}
		again := AppendPreface(nil, k)
		if k == StreamRelay {
			again = AppendRelayPreface(nil, ticket)
		}
		buf := make([]byte, MaxPacket)
		for k == StreamAttach {
			p, err := ReadPacket(r, buf)
			if err != nil {
				return
			}
			again = AppendPacket(again, p)
			if read := b[:len(b)-r.Len()]; !bytes.Equal(again, read) {
				t.Errorf("stream %x encodes to %x", read, again)
			}
		}
		if read := b[:len(b)-r.Len()]; !bytes.Equal(again, read) {
			t.Errorf("preface %x encodes to %x", read, again)
		}
	})
}

// Neither side falls over anything a stranger sends, sealed or not, and the node
// answers a stranger with no more than it was sent.
func FuzzReceive(f *testing.F) {
	seeds(f)
	k := newKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t, 1)
		s := w.link(k, nil)
		w.mustAttach(s)
		w.run(time.Second, nil)
		stranger := netip.MustParseAddrPort("203.0.113.7:7")
		w.node.Receive(w.now, stranger, b)
		if w.fromNode[stranger] > len(b) {
			t.Errorf("%d bytes for %d", w.fromNode[stranger], len(b))
		}
		s.Receive(w.now, b)
		// The same as a frame in a good seal.
		if len(b) > 0 && len(b) <= MaxFrame {
			if p, err := s.live.seal(b); err == nil {
				w.node.Receive(w.now, s.outside(), p)
			}
		}
		peer, ok := w.node.Device(k.Fingerprint())
		if e, _ := w.node.slab.find(peer.Index); ok && len(b) > 0 && len(b) <= MaxFrame {
			w.node.transmit(e, b)
		}
		w.run(200*time.Millisecond, nil)
	})
}
