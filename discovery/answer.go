package discovery

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxQuestions is how many questions of a packet are answered. Real queriers
// ask a handful; without a bound one packet could ask for thousands of answers.
const maxQuestions = 16

// A reply is one packet to send for a question.
type reply struct {
	msg     *dns.Msg
	unicast bool   // to who asked; else to the group
	key     string // what it answers, for the rate of multicasts
}

// replies answers a packet of a neighbour. It is a pure function of the record
// and the packet; how often may be answered is the responder's business.
//
// What zeroconf answers itself is left to it: a question for a service's names,
// in our spelling, multicast, from port 5353.
func (r Record) replies(p packet) []reply {
	if r.empty() || !looksLikeQuery(p.data) {
		return nil
	}
	query := new(dns.Msg)
	if query.Unpack(p.data) != nil || query.Opcode != dns.OpcodeQuery || query.Rcode != 0 {
		return nil
	}
	legacy := p.source.Port() != mdnsPort
	var replies []reply
	for _, q := range query.Question[:min(len(query.Question), maxQuestions)] {
		own, _ := r.ownName(q.Name)
		if !own || !legacy && p.multicast && r.exactName(q.Name) {
			continue
		}
		if class := q.Qclass &^ cacheFlush; class != dns.ClassINET && class != dns.ClassANY {
			continue
		}
		answer, extra := r.answer(q, p)
		if !legacy {
			answer = unknown(answer, query.Answer)
		}
		if len(answer) == 0 {
			continue
		}
		unicast := legacy || !p.multicast || q.Qclass&cacheFlush != 0
		replies = append(replies, reply{
			msg:     response(query, q, answer, extra, legacy),
			unicast: unicast,
			key:     strings.ToLower(q.Name) + " " + dns.Type(q.Qtype).String(),
		})
		if legacy {
			break // a plain resolver asks one question and waits for one answer
		}
	}
	return replies
}

// looksLikeQuery reads the header before anything is allocated: a query has
// questions, and a packet cannot hold more records than it has bytes for.
func looksLikeQuery(data []byte) bool {
	const headerSize, smallestQuestion = 12, 5
	if len(data) < headerSize+smallestQuestion || len(data) > maxPacket {
		return false
	}
	response := data[2]&0x80 != 0
	questions := int(data[4])<<8 | int(data[5])
	return !response && questions > 0 && questions*smallestQuestion <= len(data)
}

// answer returns the records that a question asks for and those that spare the
// next one.
func (r Record) answer(q dns.Question, p packet) (answer, extra []dns.RR) {
	for _, rr := range append(r.serviceRecords(), r.hostRecords(p.on)...) {
		h := rr.Header()
		wanted := strings.EqualFold(h.Name, q.Name)
		switch {
		case wanted && (h.Rrtype == q.Qtype || q.Qtype == dns.TypeANY && h.Rrtype != dns.TypeNSEC):
			answer = append(answer, rr)
		case !strings.EqualFold(h.Name, serviceEnum) && !strings.EqualFold(h.Name, q.Name):
			extra = append(extra, rr)
		case wanted:
			extra = append(extra, rr)
		}
	}
	_, host := r.ownName(q.Name)
	switch {
	case host && len(answer) == 0: // no such record: say so, so that nobody waits
		for _, rr := range extra {
			if rr.Header().Rrtype == dns.TypeNSEC {
				return []dns.RR{rr}, nil
			}
		}
	case host: // the other address family, and nothing of services
		extra = slices.DeleteFunc(extra, func(rr dns.RR) bool { return !strings.EqualFold(rr.Header().Name, q.Name) })
	case strings.EqualFold(q.Name, serviceEnum):
		extra = nil
	default:
		extra = r.relevant(q.Name, extra)
	}
	return answer, extra
}

// relevant keeps what belongs to the same service, and the host's addresses.
func (r Record) relevant(asked string, extra []dns.RR) []dns.RR {
	return slices.DeleteFunc(extra, func(rr dns.RR) bool {
		name := rr.Header().Name
		if strings.EqualFold(name, r.hostName()) {
			return false
		}
		for _, service := range services {
			if suffix := serviceName(service); endsFold(asked, suffix) && endsFold(name, suffix) {
				return rr.Header().Rrtype == dns.TypePTR
			}
		}
		return true
	})
}

func endsFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// unknown leaves out what the asker says it knows, unless it is about to
// forget it (RFC 6762 §7.1).
func unknown(answer, known []dns.RR) []dns.RR {
	return slices.DeleteFunc(answer, func(rr dns.RR) bool {
		return slices.ContainsFunc(known, func(k dns.RR) bool {
			if k.Header().Ttl < ttl/2 {
				return false
			}
			same := dns.Copy(rr)
			same.Header().Class &^= cacheFlush
			k = dns.Copy(k)
			k.Header().Class &^= cacheFlush
			return dns.IsDuplicate(same, k)
		})
	})
}

// response wraps records. A plain DNS resolver (legacy) gets what it expects of
// a server: its id and question back, no cache-flush bit, a short life
// (RFC 6762 §6.7); multicast ones hold no question (§6).
func response(query *dns.Msg, q dns.Question, answer, extra []dns.RR, legacy bool) *dns.Msg {
	m := new(dns.Msg)
	m.Response, m.Authoritative, m.Compress = true, true, true
	m.Answer, m.Extra = answer, extra
	if !legacy {
		return m
	}
	m.Id = query.Id
	q.Qclass &^= cacheFlush
	m.Question = []dns.Question{q}
	for _, rr := range append(slices.Clone(answer), extra...) {
		rr.Header().Class &^= cacheFlush
		rr.Header().Ttl = legacyTTL
	}
	return m
}

// withdrawsShared reports whether a packet says goodbye to a record that all
// devices of our kind share: that our services exist. zeroconf does so when one
// of them stops.
func withdrawsShared(data []byte) bool {
	if len(data) < 12 || data[2]&0x80 == 0 {
		return false
	}
	m := new(dns.Msg)
	if m.Unpack(data) != nil {
		return false
	}
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		ptr, ok := rr.(*dns.PTR)
		return ok && ptr.Hdr.Ttl == 0 && strings.EqualFold(ptr.Hdr.Name, serviceEnum) &&
			(strings.EqualFold(ptr.Ptr, serviceName(tcpService)) || strings.EqualFold(ptr.Ptr, serviceName(udpService)))
	})
}
