package basestation

import (
	"net/netip"
	"testing"
	"time"
)

func TestBacklog(t *testing.T) {
	b := new(backlog)
	from := netip.MustParseAddrPort("192.0.2.1:9")
	hello := func(n int) []byte {
		p := make([]byte, helloSize)
		p[0], p[10], p[11] = helloKind, byte(n), byte(n>>8)
		return p
	}
	number := func(w *waitingHello) int { return int(w.packet[10]) | int(w.packet[11])<<8 }
	for _, other := range [][]byte{nil, {helloKind}, make([]byte, helloSize), append(hello(1), 0)} {
		if b.push(0, from, other) {
			t.Errorf("took %d bytes beginning %x", len(other), other[:min(len(other), 1)])
		}
	}
	for i := range maxBacklog + 100 {
		if !b.push(time.Duration(i), from, hello(i)) {
			t.Fatal("not taken")
		}
	}
	for i := maxBacklog + 99; i >= 100; i-- {
		if w := b.pop(time.Second / 2); w == nil || number(w) != i || w.from != from {
			t.Fatalf("got %+v, want number %d", w, i)
		}
	}
	if w := b.pop(0); w != nil {
		t.Errorf("more than there is room for: %d", number(w))
	}
	b.push(0, from, hello(1))
	b.push(time.Second, from, hello(2))
	if w := b.pop(time.Second); w == nil || number(w) != 2 {
		t.Errorf("got %+v", w)
	}
	if w := b.pop(time.Second); w != nil || b.count != 0 {
		t.Error("one that is too old")
	}
}
