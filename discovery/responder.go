package discovery

import (
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/netstate"
)

// Rates of what one device sends because others ask.
const (
	// againAfter is how soon the same answer may be multicast again on an
	// interface (RFC 6762 §6).
	againAfter = time.Second

	// stale is the age of our last multicast after which an asker for a unicast
	// answer gets a multicast one, to refresh everybody (RFC 6762 §5.4: a quarter
	// of the time to live).
	stale = ttl / 4 * time.Second

	// repliesPerSecond bounds all answers of a device together. A browser on a
	// busy network asks a few times a minute; a flood is not worth answering.
	repliesPerSecond = 50
)

// A responder answers what zeroconf does not, while it has sockets.
type responder struct {
	sockets *sockets
	done    chan struct{} // closed when serve has ended

	mu        sync.Mutex
	record    Record
	quiet     bool                 // says no more, but goodbye
	multicast map[string]time.Time // last multicast by interface, family and question; few, all names are ours
	window    time.Time            // second that count belongs to
	count     int
}

func startResponder(record Record, interfaces []netstate.Interface) (*responder, error) {
	s, err := openSockets(interfaces)
	if err != nil {
		return nil, err
	}
	r := &responder{sockets: s, record: record, done: make(chan struct{}), multicast: map[string]time.Time{}}
	go func() {
		defer close(r.done)
		s.serve(r.handle)
	}()
	return r, nil
}

func (r *responder) handle(p packet) {
	r.mu.Lock()
	record, quiet := r.record, r.quiet
	r.mu.Unlock()
	if quiet {
		return
	}
	if p.multicast && withdrawsShared(p.data) {
		if r.mayMulticast(p, "shared", time.Now()) {
			r.send(p, shared(), false)
		}
		return
	}
	for _, reply := range record.replies(p) {
		now := time.Now()
		unicast := reply.unicast && !(p.source.Port() == mdnsPort && p.multicast && r.isStale(p, reply.key, now))
		if unicast && r.mayReply(now) || !unicast && r.mayMulticast(p, reply.key, now) {
			r.send(p, reply.msg, unicast)
		}
	}
}

// shared says that our services exist, for the other devices' sake.
func shared() *dns.Msg {
	m := new(dns.Msg)
	m.Response, m.Authoritative = true, true
	for _, service := range services {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: header(serviceEnum, dns.TypePTR, dns.ClassINET), Ptr: serviceName(service)})
	}
	return m
}

func (r *responder) send(p packet, m *dns.Msg, unicast bool) {
	data, err := m.Pack()
	if err != nil {
		return // cannot happen: every part was checked when the record was made
	}
	if unicast {
		r.sockets.unicast(data, p.on, p.source)
		return
	}
	r.sockets.multicast(data, p.on, !p.v6(), p.v6())
}

func multicastKey(p packet, key string) string {
	return strconv.Itoa(p.on.Index) + " " + strconv.FormatBool(p.v6()) + " " + key
}

func (r *responder) isStale(p packet, key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.multicast[multicastKey(p, key)]
	return !ok || now.Sub(last) > stale
}

func (r *responder) mayMulticast(p packet, key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key = multicastKey(p, key)
	if last, ok := r.multicast[key]; ok && now.Sub(last) < againAfter {
		return false
	}
	if !r.mayReplyLocked(now) {
		return false
	}
	if len(r.multicast) > maxRemembered {
		clear(r.multicast)
	}
	r.multicast[key] = now
	return true
}

// maxRemembered bounds the memory of what was multicast: askers choose among
// our few names, but among 65,536 types of record.
const maxRemembered = 1024

func (r *responder) mayReply(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mayReplyLocked(now)
}

func (r *responder) mayReplyLocked(now time.Time) bool {
	if now.Sub(r.window) >= time.Second {
		r.window, r.count = now, 0
	}
	r.count++
	return r.count <= repliesPerSecond
}

// announce tells everything, unasked, on every interface.
func (r *responder) announce(goodbye bool) {
	r.mu.Lock()
	record := r.record
	r.mu.Unlock()
	for _, on := range r.sockets.all() {
		if data, err := record.announcement(on, goodbye).Pack(); err == nil {
			r.sockets.multicast(data, on, true, true)
		}
	}
}

// hush stops answering, so that nothing we said is brought back after a goodbye.
func (r *responder) hush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = true
}

func (r *responder) close() {
	r.sockets.close()
	<-r.done
}
