package attach

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// inStream makes a link's packets arrive in the n-th stream from its IP address.
func (w *world) inStream(s *simLink, n uint64) {
	w.node.Opened(StreamAddr(n), s.ip)
	s.stream = StreamAddr(n)
}

func TestLinkInStream(t *testing.T) {
	w := newWorld(t, 70)
	s := w.link(newKey(t), nil)
	w.inStream(s, 1)
	w.mustAttach(s)
	w.run(time.Second, nil)
	if device, client := w.node.Holds(StreamAddr(1)); !device || client {
		t.Errorf("the stream holds a device: %v, a client: %v", device, client)
	}
	p, _ := w.node.Device(s.c.Key.Fingerprint())
	if p.Address != StreamAddr(1) || !IsStream(p.Address) {
		t.Errorf("at %v, want the stream", p.Address)
	}
	if o := s.events[0].Observed; o.IsValid() {
		t.Errorf("a link in a stream was told that it is seen at %v", o)
	}
	w.run(time.Hour, nil)
	if !s.attached() || w.node.Devices() != 1 {
		t.Errorf("after an hour: %v", s.State())
	}

	// It goes to UDP and back with the same keys.
	before, _ := s.Hash()
	s.stream = netip.AddrPort{}
	s.NetworkChanged(w.now)
	s.wake = w.now
	w.run(time.Second, nil)
	if p, _ := w.node.Device(s.c.Key.Fingerprint()); p.Address != s.outside() {
		t.Errorf("over UDP the node has %v", p.Address)
	}
	if o := s.events[len(s.events)-1].Observed; o != s.outside() {
		t.Errorf("over UDP it was told %v", o)
	}
	w.node.Lost(w.now, StreamAddr(1))
	w.run(time.Minute, nil)
	if w.node.Devices() != 1 {
		t.Fatal("the end of a stream that it had left ended a link")
	}
	w.inStream(s, 2)
	s.NetworkChanged(w.now)
	s.wake = w.now
	w.run(time.Second, nil)
	if p, _ := w.node.Device(s.c.Key.Fingerprint()); p.Address != StreamAddr(2) {
		t.Errorf("in a stream again the node has %v", p.Address)
	}
	if after, _ := s.Hash(); after != before {
		t.Error("a new handshake to change the way")
	}
}

// The end of a stream ends a link after a grace in which it may come back.
func TestStreamEnds(t *testing.T) {
	w := newWorld(t, 71)
	s := w.link(newKey(t), nil)
	w.inStream(s, 1)
	w.mustAttach(s)
	w.run(20*time.Second, nil)

	w.node.Lost(w.now, StreamAddr(1))
	w.run(2*time.Second, nil)
	w.inStream(s, 2)
	s.Check(w.now)
	s.wake = w.now
	w.run(time.Minute, nil)
	if w.node.Devices() != 1 || w.node.Streams() != 1 {
		t.Fatalf("%d devices, %d streams, after it came back in another", w.node.Devices(), w.node.Streams())
	}
	s.cut = true
	w.node.Lost(w.now, StreamAddr(2))
	began := w.now
	if !w.run(time.Minute, func() bool { return w.node.Devices() == 0 }) {
		t.Fatal("not gone")
	}
	e := w.events[len(w.events)-1]
	if took := w.now - began; took < lostGrace-time.Second || took > lostGrace+3*time.Second || e.Change != PeerGone || e.Reason != CloseLost {
		t.Errorf("gone after %v: %+v", took, e)
	}
}

// Somebody who writes an address of a stream into a datagram is nobody.
func TestForgedStream(t *testing.T) {
	w := newWorld(t, 72)
	s := w.link(newKey(t), nil)
	golden := goldenPackets(t)
	for _, name := range []string{"LOCATE", "HELLO", "sealed"} {
		w.node.Receive(w.now, StreamAddr(99), golden[name])
	}
	if w.fromNode[StreamAddr(99)] != 0 || len(w.node.pending) != 0 {
		t.Error("a stream that is not open is answered")
	}
	// And one that is open holds no more than its peers.
	w.inStream(s, 1)
	for i := range byte(20) {
		p, _, err := greet(w.bytes, mustPublic(t, w.nodeKey), hello{version: version, index: uint64(i) + 1})
		if err != nil {
			t.Fatal(err)
		}
		w.node.Receive(w.now, StreamAddr(1), p)
	}
	if n := len(w.node.pending); n != maxStreamPeers {
		t.Errorf("%d handshakes in one stream, want %d", n, maxStreamPeers)
	}
	w.node.Lost(w.now, StreamAddr(1))
	if len(w.node.pending) != 0 || len(w.node.sources) != 0 || len(w.node.hellos) != 0 {
		t.Errorf("%d handshakes left of a stream that has ended", len(w.node.pending))
	}
}

// A packet that somebody saw and sent on in a stream of his own, which he then ends,
// makes nobody gone.
func TestStolenPacketInStream(t *testing.T) {
	w := newWorld(t, 74)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	stolen, err := s.live.seal(beat{id: 99, interval: 30}.append(nil, framePing))
	if err != nil {
		t.Fatal(err)
	}
	w.node.Opened(StreamAddr(1), stranger.Addr())
	w.node.Receive(w.now, StreamAddr(1), stolen)
	w.node.Lost(w.now, StreamAddr(1))
	w.run(2*time.Minute, nil)
	p, there := w.node.Device(s.c.Key.Fingerprint())
	if !there || p.Address != s.outside() || !s.attached() {
		t.Errorf("%v at %v, the link is %v", there, p.Address, s.State())
	}
	for _, e := range w.events {
		if e.Change == PeerGone {
			t.Errorf("gone: %+v", e)
		}
	}
}

// All streams are not one source, and those of one IP address are.
func TestStreamSources(t *testing.T) {
	w := newWorld(t, 73)
	hello := func(n uint64, remote netip.Addr) {
		w.node.Opened(StreamAddr(n), remote)
		p, _, err := greet(w.bytes, mustPublic(t, w.nodeKey), hello{version: version, index: n})
		if err != nil {
			t.Fatal(err)
		}
		w.node.Receive(w.now, StreamAddr(n), p)
	}
	one := netip.MustParseAddr("203.0.113.7")
	for n := range uint64(maxPendingPerSource + 50) {
		hello(n+1, one)
	}
	if got := len(w.node.pending); got != maxPendingPerSource {
		t.Errorf("%d handshakes of one address in streams, want %d", got, maxPendingPerSource)
	}
	hello(1000, netip.MustParseAddr("203.0.113.8"))
	if got := len(w.node.pending); got != maxPendingPerSource+1 {
		t.Error("streams of another address are refused with it")
	}
}

func TestStreamFraming(t *testing.T) {
	b := AppendPreface(nil, StreamAttach)
	packets := [][]byte{{1}, bytes.Repeat([]byte{2}, MaxPacket), {3, 4}}
	for _, p := range packets {
		b = AppendPacket(b, p)
	}
	r := iotest.OneByteReader(bytes.NewReader(b))
	k, err := ReadStreamKind(r)
	if err != nil || k != StreamAttach {
		t.Fatal(k, err)
	}
	if _, err := ReadPreface(r, k); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, MaxPacket)
	for _, want := range packets {
		if got, err := ReadPacket(r, buf); err != nil || !bytes.Equal(got, want) {
			t.Errorf("packet of %d bytes: %d, %v", len(want), len(got), err)
		}
	}
	if _, err := ReadPacket(r, buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"length 0": {[]byte{0, 0, 1}, ErrMalformed}, "too long": {[]byte{4, 177}, ErrMalformed}, "cut": {[]byte{0, 5, 1}, io.ErrUnexpectedEOF},
		"nothing after the length": {[]byte{0, 5}, io.ErrUnexpectedEOF}, "half a length": {[]byte{0}, io.ErrUnexpectedEOF},
	} {
		if _, err := ReadPacket(bytes.NewReader(c.bytes), buf); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, b := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\n", "another version": "\x10\x02", "ticket cut": "\x11\x01" + strings.Repeat("x", 31), "TLS": "\x16\x03\x01",
		"no ticket": "\x11\x01" + strings.Repeat("\x00", 32), "empty": "",
	} {
		r := strings.NewReader(b)
		k, err := ReadStreamKind(r)
		if err == nil {
			_, err = ReadPreface(r, k)
		}
		if err == nil {
			t.Errorf("%s is a preface", name)
		}
	}
	// Nothing of the other leg's bytes is read.
	ticket := NewTicket()
	rest := bytes.NewReader(append(AppendRelayPreface(nil, ticket), "ClientHello"...))
	k, _ = ReadStreamKind(rest)
	if got, err := ReadPreface(rest, k); err != nil || got != ticket || rest.Len() != len("ClientHello") {
		t.Errorf("relay preface: %v, %d bytes left", err, rest.Len())
	}
}
