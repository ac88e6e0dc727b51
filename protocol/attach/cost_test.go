package attach

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/keyholed/keyhole/protocol/identity"
)

// heldNode attaches count devices to a node and returns it. Entries are filled in
// as the handshake would, since what is measured is what stays.
func heldNode(b *testing.B, count int) *Node {
	b.Helper()
	w := newWorld(b, 40)
	w.nodeCfg.Send = func(netip.AddrPort, []byte) {}
	w.nodeCfg.Event, w.nodeCfg.Random = nil, nil
	n, err := NewNode(w.nodeCfg)
	if err != nil {
		b.Fatal(err)
	}
	for i := range count {
		slot, ok := n.slab.alloc(maxSlots)
		if !ok {
			b.Fatal("full")
		}
		e := n.slab.at(slot)
		*e = entry{salt: n.salt(), state: entryAttached, interval: 30, heard: 1, port: 40000}
		e.toNode[0], e.toNode[1], e.toNode[2] = byte(i), byte(i>>8), byte(i>>16)
		e.fingerprint = identity.Fingerprint(e.toNode)
		e.setAddress(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 40000))
		n.devices[shortOf(e.fingerprint)] = slot
	}
	return n
}

// BenchmarkHeld shows the bytes of heap that one attached device costs a node.
func BenchmarkHeld(b *testing.B) {
	for _, count := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				n := heldNode(b, count)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(count), "B/device")
				runtime.KeepAlive(n)
			}
		})
	}
}

// BenchmarkAttach is the work of a node for one whole attach: LOCATE, HELLO,
// ATTACH, its acknowledgement and the device's of ATTACHED. The device's half,
// a P-256 signature included, is outside of the measure.
func BenchmarkAttach(b *testing.B) {
	w := newWorld(b, 41)
	var answers [][]byte
	w.nodeCfg.Send = func(_ netip.AddrPort, p []byte) { answers = append(answers, append([]byte(nil), p...)) }
	w.nodeCfg.Event, w.nodeCfg.Random = nil, nil
	w.nodeCfg.StrangersPerSecond, w.nodeCfg.GreetingsPerSecond = 1<<30, 1<<30 // one source, and time stands still
	var n *Node
	w.nodeCfg.Ask = func(now time.Duration, r *Request) { _ = n.Answer(now, r.Index, CodeAccepted) }
	n, err := NewNode(w.nodeCfg)
	if err != nil {
		b.Fatal(err)
	}
	from := netip.MustParseAddrPort("198.51.100.1:40000")
	k := newKey(b)
	var sent [][]byte
	l, err := NewLink(LinkConfig{Key: k, Roots: []Root{rootOf(w.root)}, Basestations: []netip.AddrPort{nodeAddress},
		Send: func(_ netip.AddrPort, p []byte) { sent = append(sent, append([]byte(nil), p...)) }})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		fresh := *l
		fresh.keep, fresh.known = newKeepalive(), Known{}
		sent, answers = sent[:0], answers[:0]
		fresh.Tick(0)
		for fresh.live == nil || len(sent) > 0 {
			out := append([][]byte(nil), sent...)
			sent = sent[:0]
			b.StartTimer()
			for _, p := range out {
				n.Receive(0, from, p)
			}
			b.StopTimer()
			in := append([][]byte(nil), answers...)
			answers = answers[:0]
			for _, p := range in {
				fresh.Receive(0, p)
			}
		}
		if slot, ok := n.devices[shortOf(k.Fingerprint())]; ok {
			n.drop(slot, CloseLeaving)
		} else {
			b.Fatal("not attached")
		}
		b.StartTimer()
	}
}

// BenchmarkKeepalive is one PING and its late PONG at a node.
func BenchmarkKeepalive(b *testing.B) {
	n := heldNode(b, 10_000)
	var key [32]byte
	e := n.slab.at(0)
	index := indexOf(0, e.salt)
	c := newCipher(key)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		p, err := seal(c, nil, head{kindToNode, index, i % maxPackets}, beat{uint16(i), 0, 30}.append(nil, framePing))
		if err != nil {
			b.Fatal(err)
		}
		if i%maxPackets == 0 {
			e.window, e.counter = window{}, 0
		}
		n.Receive(0, e.addrPort(), p)
	}
}

// BenchmarkSweep is what looking once at each of a million devices costs.
func BenchmarkSweep(b *testing.B) {
	n := heldNode(b, 1_000_000)
	for b.Loop() {
		n.sweptAt = -sweepTime
		n.sweep(0)
	}
}

// What a node keeps of a silent device must let a million fit in a fraction of
// the 2 GiB that a whole process is meant to need.
func TestEntrySize(t *testing.T) {
	var e entry
	const limit = 256
	t.Logf("%d bytes", unsafe.Sizeof(e))
	if size := unsafe.Sizeof(e); size > limit {
		t.Errorf("an entry has %d bytes, want at most %d", size, limit)
	}
}
