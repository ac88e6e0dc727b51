//go:build linux

package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/protocol/api"
)

const (
	noUDP = `table inet kh { chain in { type filter hook input priority 0; meta l4proto udp drop; }; }`
	noTCP = `table inet kh { chain in { type filter hook input priority 0; tcp dport 7443 drop; }; }`
)

// pathOf is how `keyhole devices` reaches the one device.
func (p *person) pathOf(t *testing.T) string {
	t.Helper()
	var list struct {
		Devices []struct {
			client.Device
			Path string
		}
	}
	p.ask(t, &list, "devices", "--json")
	if len(list.Devices) != 1 {
		t.Fatalf("devices: %+v", list)
	}
	return list.Devices[0].Path
}

// A finding is a node of `keyhole doctor --json`.
type finding struct {
	Name, State, Detail string
	Checks              []finding
}

func (f finding) find(name string) (finding, bool) {
	if f.Name == name {
		return f, true
	}
	for _, c := range f.Checks {
		if found, ok := c.find(name); ok {
			return found, true
		}
	}
	return finding{}, false
}

// doctor asks keyhole doctor; its exit code says whether something failed, which
// is what some tests want.
func (p *person) doctor(t *testing.T) (top finding) {
	t.Helper()
	r := finish(t, p.command("doctor", "Front door", "--json"))
	if err := json.Unmarshal([]byte(r.out), &top); err != nil {
		t.Fatalf("keyhole doctor: %v in %s%s", err, r.out, r.err)
	}
	return top
}

func (f finding) want(t *testing.T, name, state string) {
	t.Helper()
	got, ok := f.find(name)
	if !ok || got.State != state {
		t.Errorf("keyhole doctor: %s is %+v, want state %s", name, got, state)
	}
}

// A firewall that drops all UDP: no mDNS and no QUIC, and everything works with an
// address, over TCP.
//
//	board .1 ── switch ── laptop .2
//	  └ drops UDP
func TestUDPBlocked(t *testing.T) {
	t.Parallel() // it mostly waits
	net := newLAN(t)
	b := newBoard(t, net.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, net.join(t, "laptop", "10.77.0.2/24"), "Alice")
	b.nft(t, noUDP)

	alice.pair(t, b, "10.77.0.1:7443")
	if path := alice.pathOf(t); path != "tcp" {
		t.Errorf("reached by %q, want tcp", path)
	}
	bridge := alice.connect(t, "Front door", "web", "rtsp")
	if err := bridge.fetch("/frame.jpg"); err != nil {
		t.Error(err)
	}
	must(t, alice.Command("ffprobe", "-v", "error", "rtsp://"+bridge.address["rtsp"]+testcam.Path))
	diagnosis := alice.doctor(t)
	diagnosis.want(t, "TCP", "ok")
	diagnosis.want(t, "QUIC", "warning")
	diagnosis.want(t, "web", "ok")
}

// A firewall that drops TCP 7443: who has paired gets in over QUIC, who has not
// cannot pair, since pairing is for TCP alone.
//
//	board .1 ── switch ── laptop .2, tablet .3
//	  └ drops TCP 7443
func TestTCPBlocked(t *testing.T) {
	t.Parallel() // it mostly waits
	net := newLAN(t)
	b := newBoard(t, net.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, net.join(t, "laptop", "10.77.0.2/24"), "Alice")
	bob := newPerson(t, net.join(t, "tablet", "10.77.0.3/24"), "Bob")
	alice.pair(t, b, "10.77.0.1:7443")
	b.nft(t, noTCP)

	if path := alice.pathOf(t); path != "quic" {
		t.Errorf("reached by %q, want quic", path)
	}
	var me api.Me
	alice.ask(t, &me, "call", "Front door", "GET", "/v1/me")
	if me.User != "Alice" || me.Path != "quic" {
		t.Errorf("over QUIC Alice is %+v", me)
	}
	bridge := alice.connect(t, "Front door", "web", "rtsp")
	if err := bridge.fetch("/frame.jpg"); err != nil {
		t.Error(err)
	}
	must(t, alice.Command("ffprobe", "-v", "error", "rtsp://"+bridge.address["rtsp"]+testcam.Path))

	diagnosis := alice.doctor(t)
	diagnosis.want(t, "TCP", "failed")
	diagnosis.want(t, "QUIC", "ok")

	b.open(t)
	if r := finish(t, bob.command("pair", "10.77.0.1:7443")); r.code != exitRefused && r.code != exitNotReachable {
		t.Errorf("keyhole pair over QUIC: exit code %d\n%s", r.code, r.err)
	} else {
		t.Logf("keyhole pair over QUIC: exit code %d: %s", r.code, strings.TrimSpace(r.err))
	}
	if s := b.status(t); s.Users != 1 || s.Pairing.Asking != nil {
		t.Errorf("the board let somebody ask over QUIC: %+v", s)
	}
}
