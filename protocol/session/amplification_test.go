package session

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// initials captures the first flight of a client.
func initials(t testing.TB) [][]byte {
	t.Helper()
	sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	key := newKey(t)
	go func() {
		defer close(done)
		_, _ = Dial(ctx, []string{sink.LocalAddr().String()}, DialConfig{Key: key, Pin: identity.TrustAsFound, Paths: []Path{PathQUIC}})
	}()
	var all [][]byte
	buf := make([]byte, 64<<10)
	for {
		n, err := sink.Read(buf)
		if err != nil {
			break
		}
		all = append(all, append([]byte(nil), buf[:n]...))
		if len(all) == 1 {
			// The hello takes two datagrams; retransmissions come later.
			_ = sink.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		}
	}
	cancel()
	<-done
	return all
}

// A source that has not proven its address gets less than it sent: nobody can
// have the device flood somebody else.
func TestNoAmplification(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	for name, packets := range map[string][][]byte{
		"a hello":                  initials(t),
		"an unknown version":       {unknownVersion()},
		"a packet of no session":   {append([]byte{0x40}, make([]byte, 1199)...)},
		"a packet that is no QUIC": {append([]byte{0x04}, make([]byte, 1199)...)},
	} {
		raw, err := net.Dial("udp", d.quic)
		if err != nil {
			t.Fatal(err)
		}
		sent, got := 0, 0
		for _, p := range packets {
			n, err := raw.Write(p)
			if err != nil {
				t.Fatal(err)
			}
			sent += n
		}
		buf := make([]byte, 64<<10)
		for {
			// Retransmissions of an answer, were there one, begin after 200 ms.
			_ = raw.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
			n, err := raw.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		_ = raw.Close()
		t.Logf("%s: %d bytes for %d", name, got, sent)
		if got > sent {
			t.Errorf("%s: %d bytes were answered with %d", name, sent, got)
		}
		if name == "a hello" && got == 0 {
			t.Error("a client would wait for ever")
		}
	}
	if n := d.door.count(); n != 0 {
		t.Errorf("%d places are taken by those who proved nothing", n)
	}
}

// unknownVersion is a long header of a version that asks for negotiation.
func unknownVersion() []byte {
	p := make([]byte, 1200)
	copy(p, []byte{0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 1, 2, 3, 4})
	return p
}

// Who is new proves its address with a round trip, once: the device gives it a
// token for the next time.
func TestRetryOnceForNewSources(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	w := newUDPWire(t, d.quic)
	memory, k := NewResumption(), newKey(t)
	dial := func(key *identity.Key) {
		t.Helper()
		c, err := Dial(context.Background(), []string{w.address()}, DialConfig{
			Key: key, Pin: identity.PinFingerprint(d.key.Fingerprint()), Paths: []Path{PathQUIC}, Resumption: memory,
		})
		if err != nil {
			t.Fatal(err)
		}
		get(t, c, "/")
		c.Close()
	}
	dial(k)
	first, seen := w.retries(0)
	dial(k)
	second, seen := w.retries(seen)
	dial(newKey(t))
	third, _ := w.retries(seen)
	// A hello of two datagrams may get one for each.
	if first == 0 || second != 0 || third == 0 {
		t.Errorf("%d, %d and, with another key, %d Retry packets; want some, none and some", first, second, third)
	}
}

// Under load too, and the flood takes no place.
func TestRetryUnderLoad(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	flight := initials(t)
	for range 200 { // each port is a source of its own
		raw, err := net.Dial("udp", d.quic)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range flight {
			_, _ = raw.Write(p)
		}
		_ = raw.Close()
	}
	k := newKey(t)
	if got := get(t, d.dial(t, k, PathQUIC, -1), "/"); got != k.Fingerprint().String() {
		t.Errorf("seen as %q", got)
	}
	if n := d.door.count(); n != 0 {
		t.Errorf("%d places are taken by those who proved nothing", n)
	}
}
