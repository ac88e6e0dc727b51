package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/netstate"
)

// When to ask. The first questions follow each other quickly, because packets
// get lost; later ones keep up with devices that come and go.
const (
	askSoon  = time.Second
	askOften = 3 // times with askSoon between them
	askEvery = 10 * time.Second

	// inbox is how many packets may wait to be read; more are dropped, and asked
	// for again.
	inbox = 64
)

// A sighting is a packet that may name devices, unpacked.
type sighting struct {
	msg *dns.Msg
	on  netstate.Interface
	packet
}

// Browse looks for devices on all networks of this machine and calls found, from
// one goroutine at a time, for each one it sees and again when it says something
// new. It returns nil when ctx ends. The only error is that this machine has no
// network to ask on, or does not let us.
func Browse(ctx context.Context, found func(Found)) error {
	interfaces, err := netstate.AllInterfaces()
	if err != nil {
		return err
	}
	s, err := openSockets(interfaces)
	if err != nil {
		return err
	}
	sightings := make(chan sighting, inbox)
	var readers sync.WaitGroup
	readers.Go(func() { s.serve(func(p packet) { sight(p, sightings) }) })
	defer readers.Wait()
	defer s.close()

	seen := newHarvest()
	asked := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			ask(s, append(question(), seen.missing(now)...))
			asked++
			timer.Reset(pause(asked))
		case in := <-sightings:
			now := time.Now()
			seen.add(in, now)
			for _, f := range seen.news(now) {
				found(f)
			}
		}
	}
}

func pause(asked int) time.Duration {
	if asked < askOften {
		return askSoon
	}
	return askEvery
}

// sight unpacks an answer. Questions and what is no multicast DNS answer are
// dropped (RFC 6762 §6: answers come from port 5353).
func sight(p packet, to chan<- sighting) {
	if p.source.Port() != mdnsPort || len(p.data) < 12 || p.data[2]&0x80 == 0 {
		return
	}
	m := new(dns.Msg)
	if m.Unpack(p.data) != nil || m.Opcode != dns.OpcodeQuery || m.Rcode != 0 {
		return
	}
	p.data = nil
	select {
	case to <- sighting{msg: m, on: p.on, packet: p}:
	default:
	}
}

func question() []dns.Question {
	var list []dns.Question
	for _, service := range services {
		list = append(list, dns.Question{Name: serviceName(service), Qtype: dns.TypePTR, Qclass: dns.ClassINET})
	}
	return list
}

func ask(s *sockets, questions []dns.Question) {
	m := new(dns.Msg)
	m.Compress = true
	m.Question = questions
	data, err := m.Pack()
	if err != nil || len(data) > maxPacket {
		return
	}
	for _, on := range s.all() {
		s.multicast(data, on, true, true)
	}
}
