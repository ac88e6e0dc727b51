package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/protocol/identity"
)

var start0 = time.Unix(1_000_000, 0)

func sighted(m *dns.Msg) sighting {
	return sighting{msg: m, on: testInterface(), packet: packet{source: netip.MustParseAddrPort("10.77.0.1:5353")}}
}

func TestHarvestPutsPacketsTogether(t *testing.T) {
	h := newHarvest()
	all := testRecord().announcement(testInterface(), false).Answer
	for i, rr := range all { // each record alone, hosts last
		h.add(sighted(&dns.Msg{Answer: []dns.RR{rr}}), start0)
		if news := h.news(start0); i < len(all)-3 && len(news) > 0 {
			t.Errorf("told before it was complete: %v", news)
		} else if i == len(all)-3 && len(news) != 1 {
			t.Errorf("news %v", news)
		}
	}
	found := h.told[testID]
	if got, want := fmt.Sprint(found), fmt.Sprintf("{%s Front door acme [10.77.0.1:7443 [fe80::1%%eth0]:7443] [button] eth0}", testID); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	h.add(sighted(&dns.Msg{Answer: all}), start0)
	if news := h.news(start0); len(news) != 0 {
		t.Errorf("told twice: %v", news)
	}
	closed := testRecord()
	closed.Pair = nil
	h.add(sighted(closed.announcement(testInterface(), false)), start0)
	if news := h.news(start0); len(news) != 1 || news[0].Pair != nil {
		t.Errorf("after the window closed: %v", news)
	}
	h.add(sighted(closed.announcement(testInterface(), true)), start0)
	if news := h.news(start0); len(news) != 0 || len(h.told) != 0 {
		t.Errorf("after the goodbye: %v, %v", news, h.told)
	}
}

func TestHarvestForgets(t *testing.T) {
	h := newHarvest()
	h.add(sighted(testRecord().announcement(testInterface(), false)), start0)
	later := start0.Add((ttl + 1) * time.Second)
	h.missing(later)
	if len(h.instances)+len(h.hosts) != 0 || len(h.news(later)) != 0 {
		t.Errorf("still there after its life: %v %v", h.instances, h.hosts)
	}
}

func TestHarvestAsksForWhatIsMissing(t *testing.T) {
	h := newHarvest()
	for i, rr := range testRecord().announcement(testInterface(), false).Answer {
		if i < 3 { // PTR, SRV, TXT
			h.add(sighted(&dns.Msg{Answer: []dns.RR{rr}}), start0)
		}
	}
	if got := h.missing(start0); len(got) != 2 || got[0].Name != string(testID)+".local." {
		t.Errorf("missing %v, want the host's addresses", got)
	}
}

// A network full of strangers makes a browser keep no more than its bounds.
func TestHarvestIsBounded(t *testing.T) {
	h := newHarvest()
	letters := "abcdefghijklmnopqrstuvwxyz"
	for i := range 20 * len(letters) {
		id := string(letters[i%26]) + string(letters[i/26]) + string(testID)[2:]
		r := testRecord()
		r.ID = identity.ID(id)
		m := r.announcement(testInterface(), false)
		for n := range 50 {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(r.hostName(), dns.TypeA, dns.ClassINET), A: net.IPv4(10, 77, 1, byte(n))})
		}
		h.add(sighted(m), start0)
	}
	devices := h.devices(start0)
	if len(devices) > maxDevices || len(h.instances) > 2*maxDevices || len(h.hosts) > 2*maxDevices {
		t.Errorf("%d devices, %d instances, %d hosts", len(devices), len(h.instances), len(h.hosts))
	}
	for _, f := range devices {
		if len(f.Addresses) > maxAddresses {
			t.Fatalf("%d addresses", len(f.Addresses))
		}
		if f.Addresses[0] != netip.MustParseAddrPort("10.77.0.1:7443") {
			t.Fatalf("the sender's own address is not first: %v", f.Addresses)
		}
	}
}

func TestStrangersText(t *testing.T) {
	id := "id=" + string(testID)
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		txt  []string
		ok   bool
		want string
	}{
		{[]string{"v=1", id, "product=acme", "pair=button,code"}, true, "acme [button code]"},
		{[]string{"V=1", "ID=" + string(testID)}, true, " []"},
		{[]string{"v=1", id, "product=\x1b[31mred\u202e\x00", "pair=BUTTON,x y,,a,a"}, true, "[31mred [a]"},
		{[]string{"v=1", id, "product=" + long, "pair=" + long}, true, long[:maxText] + " []"},
		{[]string{"v=2", id}, false, ""},
		{[]string{"v=1", "id=../../etc"}, false, ""},
		{nil, false, ""},
	} {
		f, ok := parseText(c.txt)
		if got := fmt.Sprintf("%s %v", f.Product, f.Pair); ok != c.ok || ok && got != c.want {
			t.Errorf("parseText(%q) = %q, %t; want %q, %t", c.txt, got, ok, c.want, c.ok)
		}
	}
	if got := nameOf(`Front\ door\226\128\174-abcdef`, testID); got != "Front door" {
		t.Errorf("name %q", got)
	}
}

func TestAddressesANeighbourCanHave(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "fe80::7": "fe80::7%eth0", "2001:db8::1": "2001:db8::1",
		"127.0.0.1": "", "::1": "", "0.0.0.0": "", "224.0.0.251": "", "ff02::1": "",
	} {
		var rr dns.RR = &dns.A{A: net.ParseIP(text)}
		if strings.Contains(text, ":") {
			rr = &dns.AAAA{AAAA: net.ParseIP(text)}
		}
		a, ok := addressIn(rr, testInterface())
		if got := a.String(); ok != (want != "") || ok && got != want {
			t.Errorf("addressIn(%s) = %s, %t; want %q", text, got, ok, want)
		}
	}
}

func FuzzHarvest(f *testing.F) {
	for _, goodbye := range []bool{false, true} {
		data, _ := testRecord().announcement(testInterface(), goodbye).Pack()
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := make(chan sighting, 1)
		sight(packet{data: data, on: testInterface(), source: netip.MustParseAddrPort("10.77.0.2:5353")}, in)
		h := newHarvest()
		select {
		case s := <-in:
			h.add(s, start0)
		default:
		}
		h.missing(start0)
		for _, found := range h.news(start0) {
			if len(found.Name) > maxText || len(found.Product) > maxText || len(found.Addresses) > maxAddresses || len(found.Pair) > maxModes {
				t.Errorf("found %+v", found)
			}
		}
	})
}
