package reach

import (
	"net/netip"
	"testing"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A mute socket counts what is sent to whom.
type mute map[netip.AddrPort]int

func (m mute) WriteTo(p []byte, to netip.AddrPort) error {
	m[to] += len(p)
	return nil
}

// Whatever comes, no address gets more bytes than it sent, and few are answered.
func FuzzPunchDeliver(f *testing.F) {
	token := attach.PunchTokenOf(hash)
	f.Add(attach.Punch{Token: token, Nonce: 1}.Append(nil), uint16(1), byte(1))
	f.Add(attach.Punch{Token: token, Nonce: 1, Echo: 5}.Append(nil), uint16(2), byte(20))
	f.Add([]byte{0x09}, uint16(3), byte(1))
	f.Add([]byte{}, uint16(0), byte(1))
	f.Fuzz(func(t *testing.T, packet []byte, port uint16, times byte) {
		out, in := mute{}, mute{}
		p := NewPuncher(out, nil)
		run := &punching{token: token, proven: make(chan netip.AddrPort, MaxCandidates+maxReflexive), more: make(chan struct{}, 1)}
		run.take(deviceAt).nonce = 5
		p.now[token] = run
		for i := range uint16(times) {
			from := netip.AddrPortFrom(deviceAt.Addr(), port+i/3)
			_ = in.WriteTo(packet, from)
			p.Deliver(from, packet)
		}
		if len(out) > 1+maxReflexive {
			t.Errorf("%d addresses answered", len(out))
		}
		for to, n := range out {
			if n > in[to] {
				t.Errorf("%d bytes to %v, which sent %d", n, to, in[to])
			}
		}
	})
}
