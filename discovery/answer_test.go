package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/netstate"
)

func testInterface() netstate.Interface {
	return netstate.Interface{
		Interface: net.Interface{Index: 2, Name: "eth0"},
		Prefixes:  []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fe80::1/64")},
	}
}

func testRecord() Record {
	return Record{ID: testID, Name: "Front door", Product: "acme", Port: 7443, Pair: []string{"button"}}
}

func question1(name string, qtype, class uint16, known ...dns.RR) []byte {
	m := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: qtype, Qclass: class}}, Answer: known}
	data, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return data
}

func TestInstanceNames(t *testing.T) {
	for name, want := range map[string]string{
		"Front door":               "Front door-abcdef",
		"gw.v2":                    "gw-v2-abcdef",
		"":                         "keyhole-abcdef",
		"..":                       "keyhole-abcdef",
		"Tür\x00<b>":               "T-r-b-abcdef",
		strings.Repeat("long", 40): strings.Repeat("long", 14) + "-abcdef",
	} {
		r := Record{ID: testID, Name: name}
		if got := r.instance(); got != want || len(got) > maxLabel {
			t.Errorf("instance of %q = %q, want %q", name, got, want)
		}
		if _, ok := dns.IsDomainName(r.instanceName(tcpService)); !ok {
			t.Errorf("%q is no domain name", r.instanceName(tcpService))
		}
	}
}

func TestReplies(t *testing.T) {
	host, instance := testID, testRecord().instanceName(tcpService)
	fqdn := string(host) + ".local."
	for _, c := range []struct {
		what      string
		data      []byte
		port      uint16
		unicastTo bool // sent to our own address
		want      string
		unicast   bool
	}{
		{"address", question1(fqdn, dns.TypeA, dns.ClassINET), 5353, false, "A", false},
		{"address in capitals", question1(strings.ToUpper(fqdn), dns.TypeA, dns.ClassINET), 5353, false, "A", false},
		{"both addresses", question1(fqdn, dns.TypeANY, dns.ClassINET), 5353, false, "A AAAA", false},
		{"unicast wanted", question1(fqdn, dns.TypeAAAA, dns.ClassINET|cacheFlush), 5353, false, "AAAA", true},
		{"sent to our address", question1(fqdn, dns.TypeA, dns.ClassINET), 5353, true, "A", true},
		{"plain resolver", question1(fqdn, dns.TypeA, dns.ClassINET), 4000, false, "A", true},
		{"no such record", question1(fqdn, dns.TypeTXT, dns.ClassINET), 5353, false, "NSEC", false},
		{"known already", question1(fqdn, dns.TypeA, dns.ClassINET, &dns.A{Hdr: dns.RR_Header{Name: fqdn, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(10, 77, 0, 1)}), 5353, false, "", false},
		{"known, nearly forgotten", question1(fqdn, dns.TypeA, dns.ClassINET, &dns.A{Hdr: dns.RR_Header{Name: fqdn, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 9}, A: net.IPv4(10, 77, 0, 1)}), 5353, false, "A", false},
		{"zeroconf's own", question1("_keyhole._tcp.local.", dns.TypePTR, dns.ClassINET), 5353, false, "", false},
		{"service in capitals", question1("_KEYHOLE._tcp.local.", dns.TypePTR, dns.ClassINET), 5353, false, "PTR", false},
		{"service, plain resolver", question1("_keyhole._tcp.local.", dns.TypePTR, dns.ClassINET), 4000, false, "PTR", true},
		{"instance, plain resolver", question1(instance, dns.TypeSRV, dns.ClassINET), 4000, false, "SRV", true},
		{"another name", question1("printer.local.", dns.TypeA, dns.ClassINET), 5353, false, "", false},
		{"another class", question1(fqdn, dns.TypeA, dns.ClassCHAOS), 5353, false, "", false},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), 5353, false, "", false},
	} {
		p := packet{data: c.data, on: testInterface(), source: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.2"), c.port), multicast: !c.unicastTo}
		replies := testRecord().replies(p)
		var got []string
		for _, r := range replies {
			if r.unicast != c.unicast {
				t.Errorf("%s: unicast %t, want %t", c.what, r.unicast, c.unicast)
			}
			for _, rr := range r.msg.Answer {
				got = append(got, dns.Type(rr.Header().Rrtype).String())
				if legacy := c.port != mdnsPort; legacy && (rr.Header().Class&cacheFlush != 0 || rr.Header().Ttl > legacyTTL || len(r.msg.Question) != 1) {
					t.Errorf("%s: %v is not for a plain resolver", c.what, rr)
				} else if !legacy && (rr.Header().Ttl != ttl || len(r.msg.Question) != 0) {
					t.Errorf("%s: %v", c.what, r.msg)
				}
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: answers %q, want %q", c.what, s, c.want)
		}
	}
}

// One packet with thousands of questions brings a handful of answers.
func TestQuestionsAreBounded(t *testing.T) {
	m := new(dns.Msg)
	m.Compress = true
	for range 1000 {
		m.Question = append(m.Question, dns.Question{Name: string(testID) + ".local.", Qtype: dns.TypeA, Qclass: dns.ClassINET | cacheFlush})
	}
	data, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	p := packet{data: data, on: testInterface(), source: netip.MustParseAddrPort("10.77.0.2:5353"), multicast: true}
	if n := len(testRecord().replies(p)); n > maxQuestions {
		t.Errorf("%d replies, want at most %d", n, maxQuestions)
	}
}

func TestRates(t *testing.T) {
	r := &responder{multicast: map[string]time.Time{}}
	p := packet{on: testInterface(), source: netip.MustParseAddrPort("10.77.0.2:5353")}
	now := time.Unix(1000, 0)
	if !r.mayMulticast(p, "x A", now) || r.mayMulticast(p, "x A", now.Add(againAfter-1)) || !r.mayMulticast(p, "x A", now.Add(againAfter)) {
		t.Error("the same answer may be multicast once a second")
	}
	allowed := 0
	for range 10 * repliesPerSecond {
		if r.mayReply(now.Add(time.Minute)) {
			allowed++
		}
	}
	if allowed != repliesPerSecond {
		t.Errorf("%d answers in a second, want %d", allowed, repliesPerSecond)
	}
	if !r.isStale(p, "x A", now.Add(stale+2*time.Second)) || r.isStale(p, "x A", now.Add(2*time.Second)) {
		t.Error("an answer is stale after a quarter of its life")
	}
}

// A goodbye takes nothing from the other devices of our kind.
func TestGoodbye(t *testing.T) {
	m := testRecord().announcement(testInterface(), true)
	for _, rr := range m.Answer {
		if rr.Header().Ttl != 0 || rr.Header().Name == serviceEnum {
			t.Errorf("goodbye to %v", rr)
		}
	}
	data, err := m.Pack()
	if err != nil || withdrawsShared(data) {
		t.Errorf("our goodbye withdraws the shared record: %v", err)
	}
	m = shared()
	m.Answer[0].Header().Ttl = 0
	if data, err = m.Pack(); err != nil || !withdrawsShared(data) {
		t.Errorf("zeroconf's goodbye is not seen: %v", err)
	}
}

func TestOffLinkSourceIsDropped(t *testing.T) {
	s := &sockets{interfaces: []netstate.Interface{testInterface()}}
	for _, c := range []struct {
		source string
		index  int
		want   bool
	}{
		{"10.77.0.2:5353", 2, true},
		{"10.77.0.2:5353", 0, true}, // a system that does not tell the interface
		{"10.77.0.2:5353", 7, false},
		{"198.51.100.7:5353", 2, false},
		{"[fe80::9%eth0]:5353", 2, true},
		{"[fe80::9%eth0]:5353", 0, true},
		{"[2001:db8::9]:5353", 2, false},
		{"10.77.0.2:0", 2, false},
	} {
		got := false
		s.receive([]byte("x"), c.index, group4, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.source)), func(packet) { got = true })
		if got != c.want {
			t.Errorf("from %s on %d: handled %t, want %t", c.source, c.index, got, c.want)
		}
	}
	s.receive(make([]byte, maxPacket+1), 2, group4, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 5353}, func(packet) { t.Error("oversized packet handled") })
}

func FuzzReplies(f *testing.F) {
	f.Add(question1(string(testID)+".local.", dns.TypeA, dns.ClassINET), uint16(5353))
	f.Add(question1("_keyhole._tcp.local.", dns.TypePTR, dns.ClassINET), uint16(4000))
	announcement, _ := testRecord().announcement(testInterface(), true).Pack()
	f.Add(announcement, uint16(5353))
	f.Fuzz(func(t *testing.T, data []byte, port uint16) {
		p := packet{data: data, on: testInterface(), source: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.2"), port), multicast: true}
		withdrawsShared(data)
		for _, r := range testRecord().replies(p) {
			if packed, err := r.msg.Pack(); err != nil || len(packed) > maxPacket {
				t.Errorf("reply of %d bytes, %v", len(packed), err)
			}
		}
	})
}
