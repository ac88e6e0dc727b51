package discovery

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/netstate"
)

// cacheFlush marks a record that belongs to one host alone (RFC 6762 §10.2); in
// a question the same bit asks for a unicast answer (§5.4).
const cacheFlush = 1 << 15

// announced returns the addresses that we tell on an interface: its own and no
// other's. IPv6 link-local ones only where there is no better, as zeroconf does:
// two sets under one name would flush each other from the neighbours' caches.
func announced(on netstate.Interface) []netip.Addr {
	var list, linkLocal []netip.Addr
	global6 := false
	for _, a := range on.Addresses() {
		switch {
		case a.Is4():
			list = append(list, a)
		case a.IsGlobalUnicast():
			list = append(list, a)
			global6 = true
		case a.IsLinkLocalUnicast():
			linkLocal = append(linkLocal, a)
		}
	}
	if !global6 {
		list = append(list, linkLocal...)
	}
	return list
}

func header(name string, rrtype, class uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: class, Ttl: ttl}
}

// hostRecords are A, AAAA and the NSEC that says which of them do not exist
// (RFC 6762 §6.1), for one interface.
func (r Record) hostRecords(on netstate.Interface) []dns.RR {
	var records []dns.RR
	var has4, has6 bool
	host := r.hostName()
	for _, a := range announced(on) {
		if a.Is4() {
			has4 = true
			records = append(records, &dns.A{Hdr: header(host, dns.TypeA, dns.ClassINET|cacheFlush), A: net.IP(a.AsSlice())})
		} else {
			has6 = true
			records = append(records, &dns.AAAA{Hdr: header(host, dns.TypeAAAA, dns.ClassINET|cacheFlush), AAAA: net.IP(a.WithZone("").AsSlice())})
		}
	}
	nsec := &dns.NSEC{Hdr: header(host, dns.TypeNSEC, dns.ClassINET|cacheFlush), NextDomain: host}
	if has4 {
		nsec.TypeBitMap = append(nsec.TypeBitMap, dns.TypeA)
	}
	if has6 {
		nsec.TypeBitMap = append(nsec.TypeBitMap, dns.TypeAAAA)
	}
	return append(records, nsec)
}

// serviceRecords are what announces both services, the same on every interface.
func (r Record) serviceRecords() []dns.RR {
	var records []dns.RR
	for _, service := range services {
		name, instance := serviceName(service), r.instanceName(service)
		records = append(records,
			&dns.PTR{Hdr: header(name, dns.TypePTR, dns.ClassINET), Ptr: instance},
			&dns.SRV{Hdr: header(instance, dns.TypeSRV, dns.ClassINET|cacheFlush), Port: r.Port, Target: r.hostName()},
			&dns.TXT{Hdr: header(instance, dns.TypeTXT, dns.ClassINET|cacheFlush), Txt: r.text()},
			&dns.PTR{Hdr: header(serviceEnum, dns.TypePTR, dns.ClassINET), Ptr: name},
		)
	}
	return records
}

// ownName reports whether a name is one that we hold records of, and whether it
// is our host name. Names are compared without regard to case (RFC 6762 §16).
func (r Record) ownName(name string) (own, host bool) {
	if strings.EqualFold(name, r.hostName()) {
		return true, true
	}
	if strings.EqualFold(name, serviceEnum) {
		return true, false
	}
	for _, service := range services {
		if strings.EqualFold(name, serviceName(service)) || strings.EqualFold(name, r.instanceName(service)) {
			return true, false
		}
	}
	return false, false
}

// exactName reports whether zeroconf, which compares bytes, knows a name too.
func (r Record) exactName(name string) bool {
	for _, service := range services {
		if name == serviceName(service) || name == r.instanceName(service) {
			return true
		}
	}
	return name == serviceEnum
}

// announcement is everything we tell on an interface, unasked. A goodbye is the
// same with no time to live (RFC 6762 §10.1), without the record that every
// device of our kind shares.
func (r Record) announcement(on netstate.Interface, goodbye bool) *dns.Msg {
	m := new(dns.Msg)
	m.Response, m.Authoritative, m.Compress = true, true, true
	for _, rr := range append(r.serviceRecords(), r.hostRecords(on)...) {
		if goodbye {
			if rr.Header().Name == serviceEnum {
				continue
			}
			rr.Header().Ttl = 0
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}
