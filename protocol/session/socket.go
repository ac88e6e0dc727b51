package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// A Socket is one UDP socket that carries QUIC and, beside it, packets of other
// protocols, told apart by their first byte: below firstQUIC it is not QUIC
// (RFC 9443 §2 leaves 0 to 63 to others). On a device these are the link to the
// basestation and the packets that open NATs; they have to leave from, and
// arrive at, the port that QUIC has, because that is the hole they make.
//
// QUIC gets the *net.UDPConn as it is: a wrapper would lose segmentation
// offload and with it half the speed. What QUIC's reader finds to be no QUIC
// waits in a queue of 32 packets for one goroutine, which there is only after
// OnPacket.
type Socket struct {
	udp       *net.UDPConn
	transport *quic.Transport
	proven    proven

	waits      int       // owned by QUIC's goroutine for new sources, like the next
	waitsSince time.Time // since when they are counted

	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	reader sync.WaitGroup

	mu      sync.Mutex
	started bool // the transport has begun, and its keys are fixed
	serving bool // by a Server
	hearing bool // OnPacket was called
	closed  bool
}

// firstQUIC is the least first byte that a QUIC packet has: its fixed bit
// (RFC 9000 §17) is set.
const firstQUIC = 0x40

// maxOtherPacket is the largest packet of another protocol that is handed on
// whole: an Ethernet frame. Nothing of ours is over 1,200 bytes.
const maxOtherPacket = 1500

// ErrNotOther means that a packet cannot go beside QUIC: it is empty, or its
// first byte is QUIC's.
var ErrNotOther = errors.New("not a packet to go beside QUIC")

// NewSocket takes a UDP socket over: Close closes it. It reads nothing before
// it is served, dialled from or given to OnPacket.
func NewSocket(udp *net.UDPConn) *Socket {
	s := &Socket{udp: udp, transport: &quic.Transport{Conn: udp}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// SetResetKey is for a socket that something is sent from, or OnPacket called
// on, before a Server serves it; later it does nothing. The key is that
// Server's Config.ResetKey.
func (s *Socket) SetResetKey(k ResetKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		k.use(s.transport)
	}
}

// OnPacket has f called for each packet that is no QUIC, one after the other in
// one goroutine. F must not keep p, nor block: the queue before it is short, and
// what finds it full is lost. It is set once, before serving or dialling; what
// comes before is dropped.
func (s *Socket) OnPacket(f func(from netip.AddrPort, p []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hearing || s.closed {
		return
	}
	s.hearing, s.started = true, true
	// The queue is made by the first call, and until then packets are dropped:
	// this one, which ends at once, leaves no gap between here and the goroutine.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, _ = s.transport.ReadNonQUICPacket(over, nil)
	s.reader.Go(func() { s.read(f) })
}

func (s *Socket) read(f func(netip.AddrPort, []byte)) {
	buf := make([]byte, maxOtherPacket)
	for {
		n, from, err := s.transport.ReadNonQUICPacket(s.ctx, buf)
		if err != nil {
			return // closed, by us or by the system
		}
		f(addrPort(from), buf[:n])
	}
}

// WriteTo sends a packet that is no QUIC.
func (s *Socket) WriteTo(p []byte, to netip.AddrPort) error {
	if len(p) == 0 || p[0] >= firstQUIC {
		return ErrNotOther
	}
	s.mu.Lock()
	closed := s.closed
	s.started = true
	s.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	_, err := s.transport.WriteTo(p, net.UDPAddrFromAddrPort(to))
	return err
}

// Proven says that whoever is at an address has just shown that packets reach
// him there. For provenLife QUIC asks him for no proof of its own (Retry, a
// round trip), and what sessions begin from there are ViaPunched.
func (s *Socket) Proven(a netip.AddrPort) { s.proven.add(a, time.Now()) }

// LocalAddr is the address that the socket is bound to.
func (s *Socket) LocalAddr() netip.AddrPort { return addrPort(s.udp.LocalAddr()) }

// Close closes the socket; sessions on it end without a goodbye. It returns
// when f of OnPacket has.
func (s *Socket) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	started := s.started
	s.mu.Unlock()
	if was {
		return nil
	}
	s.stop()
	var err error
	if started {
		err = s.transport.Close()
	}
	err = errors.Join(err, s.udp.Close())
	s.reader.Wait()
	return err
}

// begin makes sure that the transport may be used; who serves it gives its key.
func (s *Socket) begin(server *Server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case server == nil:
	case s.serving:
		return fmt.Errorf("serve %s: it is being served", s.udp.LocalAddr())
	default:
		s.serving = true
		if !s.started {
			server.config.ResetKey.use(s.transport)
		}
		s.transport.VerifySourceAddress = func(a net.Addr) bool { return !s.isProven(addrPort(a), server) }
		s.transport.ConnContext = func(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
			at := addrPort(from.RemoteAddr)
			via := s.viaOf(at)
			if via == ViaDirect {
				via = server.viaOf(at)
			}
			return server.knock(ctx, from, via)
		}
	}
	s.started = true
	return nil
}

const (
	// proofWait is what the reader of other packets is given to come up with a
	// proof: it is another goroutine, woken a few microseconds earlier, which on a
	// busy board may have its turn a little later.
	proofWait  = 2 * time.Millisecond
	proofSteps = 20
	// proofWaits bounds how many such waits are under way in provenLife, since
	// new sources are looked at one after the other.
	proofWaits = 64
)

// isProven is asked before a new source is sent a Retry. A client dials right
// behind the packet that proves his address. Where the server expects somebody
// from there, that proof is waited for, for a moment: a third of all punched
// sessions would pay a round trip without.
func (s *Socket) isProven(a netip.AddrPort, server *Server) bool {
	now := time.Now()
	if s.proven.has(a, now) {
		return true
	}
	if server.viaOf(a) != ViaPunched || !s.mayWait(now) {
		return false
	}
	for range proofSteps {
		time.Sleep(proofWait / proofSteps)
		if s.proven.has(a, time.Now()) {
			return true
		}
	}
	return false
}

// mayWait counts a wait; owned by the goroutine of QUIC that asks isProven.
func (s *Socket) mayWait(now time.Time) bool {
	if now.Sub(s.waitsSince) > provenLife {
		s.waitsSince, s.waits = now, 0
	}
	s.waits++
	return s.waits <= proofWaits
}

// viaOf says how a session came that begins from an address.
func (s *Socket) viaOf(a netip.AddrPort) Via {
	if s.proven.has(a, time.Now()) {
		return ViaPunched
	}
	return ViaDirect
}

const (
	// provenLife is from the proof to the handshake: the client dials in the
	// same moment, and tries again for some seconds.
	provenLife = 30 * time.Second
	// maxProven bounds what proofs cost; introductions at once are fewer. When
	// it is full, the proof that is oldest goes: its client pays a round trip.
	maxProven = 256
)

// proven remembers addresses for provenLife.
type proven struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

func (p *proven) add(a netip.AddrPort, now time.Time) {
	a = unmapped(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = make(map[netip.AddrPort]time.Time)
	}
	if _, there := p.until[a]; !there && len(p.until) >= maxProven {
		p.makeRoomLocked()
	}
	p.until[a] = now.Add(provenLife)
}

func (p *proven) makeRoomLocked() {
	var oldest netip.AddrPort
	for a, until := range p.until {
		if !oldest.IsValid() || until.Before(p.until[oldest]) {
			oldest = a
		}
	}
	delete(p.until, oldest)
}

func (p *proven) has(a netip.AddrPort, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a = unmapped(a)
	until, there := p.until[a]
	if there && !now.Before(until) {
		delete(p.until, a)
		return false
	}
	return there
}
