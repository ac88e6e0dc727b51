//go:build linux

package e2e

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

// masquerade hides the far network behind the router's own address.
const masquerade = `table ip kh { chain post { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }; }`

// Who comes through a router cannot pair, though the window is open, and learns
// from the device that it is closed. Who has paired at home gets in from there.
//
//	       switch
//	  ┌──────┼──────────┐
//	board  laptop     router ─────── far laptop
//	 .1     .2 Alice   .254  10.88.0.254  10.88.0.2
//	10.77.0.0/24
func TestBeyondTheLAN(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, c := range []struct{ name, rules string }{{"routed", ""}, {"NAT", masquerade}} {
		t.Run(c.name, func(t *testing.T) {
			home := newLAN(t)
			b := newBoard(t, home.join(t, "board", "10.77.0.1/24"))
			alice := newPerson(t, home.join(t, "laptop", "10.77.0.2/24"), "Alice")
			router := home.join(t, "router", "10.77.0.254/24")
			far := newLAN(t)
			far.plug(t, router, "router", "eth1", "10.88.0.254/24")
			mallory := newPerson(t, far.join(t, "far", "10.88.0.2/24"), "Mallory")
			router.forward(t)
			b.IP(t, "route add default via 10.77.0.254")
			mallory.IP(t, "route add default via 10.88.0.254")
			if c.rules != "" {
				router.nft(t, c.rules)
			}
			const at = "10.77.0.1:7443"
			alice.pair(t, b, at)

			b.open(t)
			var hello api.Hello
			mallory.ask(t, &hello, "call", at, "GET", "/v1/hello")
			if hello.Pairing.Open || len(hello.Pairing.Modes) != 0 {
				t.Errorf("a stranger from afar is told %+v", hello)
			}
			mallory.refused(t, exitRefused, "pair", at)
			mallory.refused(t, exitRefused, "call", at, "GET", "/v1/device")
			if s := b.status(t); !s.Pairing.Open || s.Pairing.Asking != nil || s.Users != 1 {
				t.Errorf("the board was impressed: %+v", s)
			}

			traveller := alice.at(mallory.host)
			var me api.Me
			traveller.ask(t, &me, "call", at, "GET", "/v1/me")
			if me.User != "Alice" {
				t.Errorf("from afar Alice is %+v", me)
			}
			for _, target := range []string{at, "Front door"} { // by address, and as remembered
				bridge := traveller.connect(t, target, "web", "rtsp")
				if err := bridge.fetch("/frame.jpg"); err != nil {
					t.Errorf("connect %s: %v", target, err)
				}
				bridge.kill()
			}
			if c.rules == "" {
				mdnsStaysAtHome(t, b, alice.host, mallory.host)
			}
		})
	}
}

// mdnsStaysAtHome asks the board's mDNS port by unicast, from the network and from
// beyond. When the neighbour has its answer, the other's would be there too.
func mdnsStaysAtHome(t *testing.T, b *board, near, far host) {
	t.Helper()
	question, err := new(dns.Msg).SetQuestion(string(b.status(t).ID)+".local.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(from host) net.Conn {
		conn, err := from.dial("udp", "10.77.0.1:5353")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write(question); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer := make([]byte, 1500)
	testnet.Eventually(t, "an answer to the neighbour", func() error {
		stranger, neighbour := ask(far), ask(near)
		_ = neighbour.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := neighbour.Read(answer); err != nil {
			return err
		}
		_ = stranger.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := stranger.Read(answer); err == nil {
			t.Errorf("somebody behind a router got %d bytes", n)
		}
		return nil
	})
}
