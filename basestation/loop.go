package basestation

import (
	"context"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/datagram"
	"github.com/keyholed/keyhole/protocol/attach"
)

// maxPacket is one byte more than a packet may have, so that one that is too
// long is seen to be.
const maxPacket = attach.MaxPacket + 1

// readAhead is how many batches a socket's reader may be ahead of the loop. What
// comes when all are full waits in the kernel's buffer, and then is lost.
const readAhead = 4

// A reader is one UDP socket's goroutine: batches go round between it and the loop.
type reader struct {
	*socket
	empty chan *datagram.Batch
	full  chan<- *arrived
}

// arrived is a batch that was read.
type arrived struct {
	*datagram.Batch
	from *reader
}

func newReader(s *socket, full chan<- *arrived) *reader {
	r := &reader{socket: s, empty: make(chan *datagram.Batch, readAhead), full: full}
	for range readAhead {
		r.empty <- datagram.NewBatch(batchPackets, maxPacket)
	}
	return r
}

// run reads until the socket is closed.
func (r *reader) run(done <-chan struct{}) {
	for {
		var b *datagram.Batch
		select {
		case b = <-r.empty:
		case <-done:
			return
		}
		if r.Read(b) != nil {
			return // closed: that is how a server stops
		}
		select {
		case r.full <- &arrived{b, r}:
		case <-done:
			return
		}
	}
}

// loop owns the hub until ctx ends.
func (s *Server) loop(ctx context.Context, full <-chan *arrived) {
	defer close(s.loopDone)
	tick := time.NewTicker(attach.TickEvery)
	defer tick.Stop()
	no := time.NewTimer(time.Hour)
	defer no.Stop()
	var armed time.Duration
	always := make(chan struct{})
	close(always)
	for {
		var hellos <-chan struct{} // ready while some wait
		if s.backlog.count > 0 {
			hellos = always
		}
		select {
		case b := <-full:
			s.receive(b)
		case <-hellos:
			s.greet()
		case p := <-s.streams.inbox:
			s.streams.receive(p)
		case f := <-s.calls:
			f(s.now())
		case <-tick.C:
			for _, id := range s.blocks.take() {
				s.hub.block(s.now(), id)
			}
			s.hub.Tick(s.now())
			s.measure()
		case <-no.C:
			armed = 0
			s.hub.sayNo(s.now())
		case <-ctx.Done():
			s.flush()
			return
		}
		if next, waits := s.hub.Next(); waits && next != armed {
			armed = next
			no.Reset(max(next-s.now(), 0))
		}
		s.flush()
	}
}

func (s *Server) receive(b *arrived) {
	now := s.now()
	s.metrics.packetsIn.Add(b.Len())
	for i := range b.Len() {
		from := b.Peer(i)
		if attach.IsStream(from) {
			continue // nobody has such an address: it stands for streams here
		}
		if packet := b.Packet(i); !s.backlog.push(now, from, packet) {
			s.hub.node.Receive(now, from, packet)
		}
	}
	b.from.empty <- b.Batch
}

// greetings is how many HELLOs are answered in one turn: a millisecond's work.
const greetings = 4

// greet answers the newest HELLOs.
func (s *Server) greet() {
	now := s.now()
	for range greetings {
		w := s.backlog.pop(now)
		if w == nil {
			return
		}
		s.hub.node.Receive(now, w.from, w.packet[:])
	}
}

// sendPacket hands out a packet of the node: it goes with the others of this turn
// of the loop.
func (s *Server) sendPacket(to netip.AddrPort, packet []byte) {
	if attach.IsStream(to) {
		s.streams.send(to, packet)
		return
	}
	socket := s.net.to(to.Addr())
	if socket == nil {
		s.metrics.packetsLost.Inc()
		return
	}
	if !socket.out.Add(to, packet) {
		s.flushSocket(socket)
		socket.out.Add(to, packet)
	}
}

func (s *Server) flush() {
	for _, socket := range s.net.udp {
		if socket.out.Len() > 0 {
			s.flushSocket(socket)
		}
	}
}

func (s *Server) flushSocket(socket *socket) {
	s.metrics.packetsOut.Add(socket.out.Len())
	lost, _ := socket.Write(socket.out) // the error is that of a closed socket: we are stopping
	s.metrics.packetsLost.Add(lost)
}
