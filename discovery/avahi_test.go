package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	testID  = identity.ID("abcdefghijklmnopqrstuvwxyz")
	otherID = identity.ID("bcdefghijklmnopqrstuvwxyz2")
)

// run starts an announcer and returns what ends it, with its goodbye.
func run(t *testing.T, r Record) (a *Announcer, stop func()) {
	t.Helper()
	a = NewAnnouncer(Config{})
	a.Set(r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	<-a.Ready()
	return a, stop
}

// device 10.77.0.1 (here) ─ eth0 ─── eth0 ─ foreign 10.77.0.2, avahi
//
//	10.78.0.1 (later) ─ eth1 ─── eth1 ─ foreign 10.78.0.2
func TestAvahiSeesUs(t *testing.T) {
	if !testnet.Isolate(t) {
		return
	}
	foreign := testnet.New(t)
	foreign.Wire(t, "eth0", "eth0")
	testnet.IP(t, "addr add 10.77.0.1/24 dev eth0")
	foreign.IP(t, "addr add 10.77.0.2/24 dev eth0")
	peer := testnet.StartAvahi(t, foreign)

	record := Record{ID: testID, Name: "Front door", Product: "acme-cam-2", Port: 7443}
	device, stop := run(t, record)
	host := string(testID) + ".local"
	peer.Sees(t, tcpService, `Front\032door-abcdef`, host, "10.77.0.1", ";7443;", `"v=1"`, `"id=`+string(testID)+`"`, `"product=acme-cam-2"`)
	peer.Sees(t, udpService, `Front\032door-abcdef`, "10.77.0.1", ";7443;")

	record.Pair = []string{"button", "code"}
	device.Set(record)
	peer.Sees(t, tcpService, `"pair=button,code"`)
	record.Pair = nil
	device.Set(record)
	peer.SawLast(t, tcpService, "pair=")
	peer.Sees(t, tcpService, "10.77.0.1")

	// Our responder's work: a question for the address alone.
	testnet.Eventually(t, "avahi-resolve", func() error {
		out, err := peer.Command("timeout", "5", "avahi-resolve", "-4", "-n", host).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.77.0.1") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})

	testnet.IP(t, "addr del 10.77.0.1/24 dev eth0")
	testnet.IP(t, "addr add 10.77.0.9/24 dev eth0")
	peer.Sees(t, tcpService, "10.77.0.9")

	// An interface that comes later is joined, and told its own address only.
	foreign.Wire(t, "eth1", "eth1")
	testnet.IP(t, "addr add 10.78.0.1/24 dev eth1")
	foreign.IP(t, "addr add 10.78.0.2/24 dev eth1")
	peer.Sees(t, tcpService, ";eth1;", "10.78.0.1")
	peer.Sees(t, tcpService, ";eth0;", "10.77.0.9")

	stop()
	peer.SawLast(t, tcpService, "abcdef")
	goleak.VerifyNone(t, goleak.IgnoreAnyFunction("github.com/grandcat/zeroconf.(*Server).probe")) // gone in four seconds, see shutdown
}

// Two devices of one name, seen by avahi and by Browse; a service that avahi
// announces is seen by Browse too.
func TestBrowseSeesUsAndAvahi(t *testing.T) {
	if !testnet.Isolate(t) {
		return
	}
	foreign := testnet.New(t)
	foreign.Wire(t, "eth0", "eth0")
	testnet.IP(t, "addr add 10.77.0.1/24 dev eth0")
	foreign.IP(t, "addr add 10.77.0.2/24 dev eth0")
	peer := testnet.StartAvahi(t, foreign)
	testnet.Start(t, peer.Command("avahi-publish", "-s", "Garage-bcdefg", tcpService, "7000", "v=1", "id="+string(otherID), "product=x", "pair=label"))

	run(t, Record{ID: testID, Name: "Front door", Product: "acme", Port: 7443, Pair: []string{"button"}})
	twin := identity.ID("ccdefghijklmnopqrstuvwxyz2")
	run(t, Record{ID: twin, Name: "Front door", Product: "acme", Port: 7444})
	peer.Sees(t, tcpService, "abcdef", ";7443;")
	peer.Sees(t, tcpService, "ccdefg", ";7444;")

	var mu sync.Mutex
	seen := map[identity.ID]Found{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Browse(ctx, func(f Found) {
			mu.Lock()
			defer mu.Unlock()
			seen[f.ID] = f
		})
	}()
	for id, want := range map[identity.ID]string{
		testID:  "Front door acme 10.77.0.1:7443 [button] eth0",
		twin:    "Front door acme 10.77.0.1:7444 [] eth0",
		otherID: "Garage x 10.77.0.2:7000 [label] eth0",
	} {
		testnet.Eventually(t, "Browse", func() error {
			mu.Lock()
			defer mu.Unlock()
			f := seen[id]
			var to netip.AddrPort
			for _, a := range f.Addresses {
				if a.Addr().Is4() {
					to = a
				}
			}
			if got := fmt.Sprintf("%s %s %s %v %s", f.Name, f.Product, to, f.Pair, f.Interface); got != want {
				return fmt.Errorf("%s: got %q, want %q (all: %v)", id, got, want, seen)
			}
			return nil
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Browse: %v", err)
	}
}

// A plain DNS question to our own address is answered for a neighbour and not
// for somebody behind a router.
//
//	device 10.77.0.1 ─ eth0 ─── eth0 ─ foreign 10.77.0.2, and 198.51.100.7 behind it
func TestOffLinkIsNotAnswered(t *testing.T) {
	if os.Getenv("KEYHOLE_ASKER") != "" {
		askFromAfar(t)
		return
	}
	if !testnet.Isolate(t) {
		return
	}
	foreign := testnet.New(t)
	foreign.Wire(t, "eth0", "eth0")
	testnet.IP(t, "addr add 10.77.0.1/24 dev eth0")
	foreign.IP(t, "addr add 10.77.0.2/24 dev eth0")
	foreign.IP(t, "addr add 198.51.100.7/32 dev lo")
	testnet.IP(t, "route add default via 10.77.0.2")
	run(t, Record{ID: testID, Name: "Front door", Port: 7443})

	asker := foreign.Command(os.Args[0], "-test.run=^TestOffLinkIsNotAnswered$", "-test.v")
	asker.Env = append(os.Environ(), "KEYHOLE_ASKER=yes")
	out, err := asker.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOffLinkIsNotAnswered") {
		t.Errorf("asker: %v\n%s", err, out)
	}
}

// askFromAfar is the far end, in a process of its own: it asks from behind the
// router first. Whatever that brought is there when the neighbour's answer is.
func askFromAfar(t *testing.T) {
	ask := func(source string) *net.UDPConn {
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
		conn, err := net.DialUDP("udp4", local, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: mdnsPort})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write(pack(t, testID)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer := make([]byte, maxPacket)
	testnet.Eventually(t, "an answer to the neighbour", func() error {
		stranger, neighbour := ask("198.51.100.7"), ask("10.77.0.2")
		neighbour.SetReadDeadline(time.Now().Add(time.Second))
		n, err := neighbour.Read(answer)
		if err != nil {
			return err
		}
		m := new(dns.Msg)
		if err := m.Unpack(answer[:n]); err != nil || len(m.Answer) != 1 || len(m.Question) != 1 || m.Answer[0].Header().Ttl > legacyTTL {
			t.Fatalf("answer %v, %v", m, err)
		}
		stranger.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if n, err := stranger.Read(answer); err == nil {
			t.Fatalf("somebody behind a router got %d bytes", n)
		}
		return nil
	})
}

func pack(t testing.TB, id identity.ID) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(string(id)+".local.", dns.TypeA)
	data, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
