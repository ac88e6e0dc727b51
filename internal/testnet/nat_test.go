package testnet

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// echo answers every UDP packet with what it said and the address it came from.
func echo(conn *net.UDPConn) {
	buf := make([]byte, 100)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", buf[:n], from), from)
	}
}

// ask sends to an echo and returns how it sees the sender; invalid without an
// answer. Where one is wanted it asks again until a busy machine has it.
func ask(t *testing.T, conn *net.UDPConn, to string, wanted bool) (seen netip.AddrPort) {
	t.Helper()
	question := rand.Text() // an answer that comes late is no answer to the next one
	for deadline := time.Now().Add(patience); ; {
		// Some filters are told to the sender, as an error.
		if _, err := conn.WriteToUDPAddrPort([]byte(question), netip.MustParseAddrPort(to)); err == nil {
			seen = hear(conn, question)
		}
		if seen.IsValid() || !wanted || time.Now().After(deadline) {
			return seen
		}
	}
}

// hear waits for an answer to a question.
func hear(conn *net.UDPConn, question string) netip.AddrPort {
	buf := make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(quiet))
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return netip.AddrPort{}
		}
		if text, ok := strings.CutPrefix(string(buf[:n]), question+" "); ok {
			seen, _ := netip.ParseAddrPort(text)
			return seen
		}
	}
}

// quiet is how long silence is taken for a no. It only bounds what must not
// come; what must come is asked for again.
const quiet = 300 * time.Millisecond

// Each kind maps and filters as it says, for UDP.
func TestNATKinds(t *testing.T) {
	Root(t)
	n := NewInternet(t)
	other := n.Host(t, "198.51.100.11")
	base1, base2, stranger := n.Base.ListenUDP(t, 1000), n.Base.ListenUDP(t, 2000), other.ListenUDP(t, 1000)
	go echo(base1)
	for _, c := range []struct {
		kind                        NAT
		out, oneport, samehost, any bool
	}{
		{FullCone, true, true, true, true},
		{AddrRestricted, true, true, true, false},
		{PortRestricted, true, true, false, false},
		{Symmetric, true, false, false, false},
		{Leaky, true, true, false, false},
		{UDPBlocked, false, false, false, false},
	} {
		h := n.Home(t, c.kind)
		conn := h.Host.ListenUDP(t, 7443)
		seen := ask(t, conn, BaseAddress+":1000", c.out)
		if seen.IsValid() != c.out || (c.out && seen.Addr() != h.Outside) {
			t.Errorf("%s: seen at %v", c.kind, seen)
		}
		if !c.out {
			continue
		}
		if got := seen.Port() == 7443; got != c.oneport {
			t.Errorf("%s: seen at %v", c.kind, seen)
		}
		for _, from := range []struct {
			name string
			conn *net.UDPConn
			want bool
		}{{"another port", base2, c.samehost}, {"another host", stranger, c.any}} {
			got, word := false, rand.Text()
			for deadline := time.Now().Add(patience); ; {
				if _, err := from.conn.WriteToUDPAddrPort([]byte(word+" 192.0.2.1:1"), seen); err != nil {
					t.Fatal(err)
				}
				if got = hear(conn, word).IsValid(); got || !from.want || time.Now().After(deadline) {
					break
				}
			}
			if got != from.want {
				t.Errorf("%s: packet from %s passed: %v, want %v", c.kind, from.name, got, from.want)
			}
		}
		h.BlockUDP(t, true)
		if got := ask(t, conn, BaseAddress+":1000", false); got.IsValid() {
			t.Errorf("%s: UDP is blocked and gets through", c.kind)
		}
		h.BlockUDP(t, false)
		h.Readdress(t, "198.51.100.240")
		if got := ask(t, conn, BaseAddress+":1000", true); got.Addr() != h.Outside {
			t.Errorf("%s: after a new address seen at %v", c.kind, got)
		}
		h.Readdress(t, seen.Addr().String())
	}
}

// A machine moves from one home to another, gets another address, and a router
// changes its kind.
func TestMove(t *testing.T) {
	Root(t)
	n := NewInternet(t)
	go echo(n.Base.ListenUDP(t, 1000))
	a, b := n.Home(t, PortRestricted), n.HomeIn(t, Symmetric, "192.168.1.0/24")
	conn := a.Host.ListenUDP(t, 7443)
	want := func(when string, at netip.Addr, kept bool) {
		t.Helper()
		if got := ask(t, conn, BaseAddress+":1000", at.IsValid()); got.Addr() != at || (got.Port() == 7443) != kept {
			t.Errorf("%s: seen at %v", when, got)
		}
	}
	want("at first", a.Outside, true)
	b.Move(t, a.Host, 33)
	want("after the move", b.Outside, false)
	b.Renumber(t, a.Host, 34)
	want("with another address", b.Outside, false)
	b.SetNAT(t, FullCone)
	want("behind a kinder router", b.Outside, true)
	b.Loss(t, 100)
	want("when all is lost", netip.Addr{}, false)
	b.Loss(t, 0)
	want("when nothing is", b.Outside, true)
}

func TestTheory(t *testing.T) {
	for _, c := range []struct {
		network    string
		a, b       NAT
		yes, known bool
	}{
		{"udp", FullCone, Symmetric, true, true},
		{"udp", AddrRestricted, Symmetric, true, true},
		{"udp", PortRestricted, PortRestricted, true, true},
		{"udp", PortRestricted, Symmetric, false, true},
		{"udp", Symmetric, Symmetric, false, true},
		{"udp", FullCone, UDPBlocked, false, true},
		{"tcp", UDPBlocked, UDPBlocked, true, true},
		{"tcp", UDPBlocked, Symmetric, false, true},
		{"tcp", Leaky, FullCone, true, false},
	} {
		for range 2 {
			if yes, known := Meet(c.network, c.a, c.b); yes != c.yes || known != c.known {
				t.Errorf("Meet(%s, %s, %s) = %v, %v, want %v, %v", c.network, c.a, c.b, yes, known, c.yes, c.known)
			}
			c.a, c.b = c.b, c.a
		}
	}
}
