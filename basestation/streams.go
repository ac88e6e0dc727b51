package basestation

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	// prefaceTime is for the first bytes of a connection, which are sent at once.
	prefaceTime = 5 * time.Second
	// observeTime is how long a connection that asked for its address may stay: while
	// it is there its NAT keeps the mapping, which is what it is for.
	observeTime = 30 * time.Second
	// strangerTime ends a stream in which nobody has attached or asked, whatever
	// comes in it: what the slowest decision about a device takes, and some.
	strangerTime = 30 * time.Second
	// clientSilence ends a stream of clients without a packet: the node has forgotten
	// them by then.
	clientSilence = 90 * time.Second
	// silentTime ends the stream of a device without a packet: the longest interval that
	// it may promise to be heard in, twice, and some.
	silentTime = 21 * time.Minute
	// writeTime ends a stream that takes nothing.
	writeTime = 15 * time.Second
	// maxUnsent is what may wait for a slow stream: more than a peer can be owed.
	maxUnsent = 16 << 10
	// maxInbox is how many packets of streams may wait for the loop; then their
	// readers wait, and TCP slows the senders.
	maxInbox = 256
)

// streams are the TCP connections that carry attach packets. The map is the loop's.
type streams struct {
	s       *Server
	byAddr  map[netip.AddrPort]*stream
	next    uint64
	inbox   chan streamEvent
	buffers sync.Pool
}

// A stream is one of them: a goroutine reads, and one writes while there is
// something to write.
type stream struct {
	conn     *net.TCPConn
	readable readiness.Reader // nil where the system cannot tell
	address  netip.AddrPort   // what stands for it in the node
	remote   netip.Addr
	whose    owner  // the loop's
	proven   func() // called once it is a device's; see acceptor

	mu      sync.Mutex
	limit   time.Time     // while nobody is there: the end
	silence time.Duration // else: without a packet
	unsent  []byte
	writing bool
	closed  bool
	writers sync.WaitGroup
}

// An owner is who has been found in a stream.
type owner uint8

const (
	ofStranger owner = iota
	ofClient
	ofDevice
)

// A streamEvent is something that the loop has to know of a stream.
type streamEvent struct {
	stream *stream
	kind   streamEventKind
	packet *[attach.MaxPacket]byte
	length int
	opened chan<- struct{} // closed when the loop knows the stream
}

type streamEventKind uint8

const (
	streamOpened streamEventKind = iota
	streamPacket
	streamLost
)

func (t *streams) init(s *Server) {
	t.s, t.byAddr, t.inbox = s, map[netip.AddrPort]*stream{}, make(chan streamEvent, maxInbox)
	t.buffers.New = func() any { return new([attach.MaxPacket]byte) }
}

// receive is called by the loop.
func (t *streams) receive(e streamEvent) {
	now := t.s.now()
	switch e.kind {
	case streamOpened:
		t.next++
		e.stream.address = attach.StreamAddr(t.next)
		t.byAddr[e.stream.address] = e.stream
		t.s.hub.node.Opened(e.stream.address, e.stream.remote)
		close(e.opened)
	case streamPacket:
		t.s.hub.node.Receive(now, e.stream.address, e.packet[:e.length])
		t.buffers.Put(e.packet)
		if e.stream.whose < ofDevice {
			t.know(e.stream)
		}
	case streamLost:
		t.s.hub.node.Lost(now, e.stream.address) // its last words need where it was
		delete(t.byAddr, e.stream.address)
	}
}

// know looks who is in a stream, after a packet of it.
func (t *streams) know(s *stream) {
	device, client := t.s.hub.node.Holds(s.address)
	switch {
	case device:
		s.whose = ofDevice
		s.expect(silentTime)
		s.proven()
	case client && s.whose == ofStranger:
		s.whose = ofClient
		s.expect(clientSilence)
	}
}

// expect has the stream end after so long without a packet.
func (s *stream) expect(silence time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence = silence
	s.waitLocked()
}

// waitLocked sets how long the reader waits, also one that does already.
func (s *stream) waitLocked() {
	until := s.limit
	if s.silence > 0 {
		until = time.Now().Add(s.silence)
	}
	_ = s.conn.SetReadDeadline(until) // a failure shows in ReadPacket
}

// remote is called by the loop.
func (t *streams) remote(a netip.AddrPort) netip.Addr {
	if s := t.byAddr[a]; s != nil {
		return s.remote
	}
	return netip.Addr{}
}

// send is called by the loop, and does not wait: a stream that owes more than
// maxUnsent is closed.
func (t *streams) send(to netip.AddrPort, packet []byte) {
	s := t.byAddr[to]
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if len(s.unsent)+len(packet)+2 > maxUnsent {
		t.s.metrics.slowPeers.Inc()
		_ = s.conn.Close() // its reader tells the loop
		s.closed = true
		return
	}
	s.unsent = attach.AppendPacket(s.unsent, packet)
	if !s.writing {
		s.writing = true
		s.writers.Go(s.write)
	}
}

// write sends what waits, and ends when there is nothing more.
func (s *stream) write() {
	for {
		s.mu.Lock()
		out := s.unsent
		if len(out) == 0 || s.closed {
			s.writing, s.unsent = false, nil
			s.mu.Unlock()
			return
		}
		s.unsent = nil
		s.mu.Unlock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeTime)) // a failure shows in Write
		if _, err := s.conn.Write(out); err != nil {
			s.close()
		}
	}
}

func (s *stream) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.conn.Close()
}

// serve carries the packets of one connection until it ends. proven is called once a
// device has attached in it.
func (t *streams) serve(conn *net.TCPConn, remote netip.Addr, proven func(), done <-chan struct{}) {
	s := &stream{conn: conn, remote: remote, proven: proven, limit: time.Now().Add(t.s.config.Limits.strangers)}
	s.readable, _ = readiness.Of(conn)
	defer s.writers.Wait()
	defer s.close()
	opened := make(chan struct{})
	if !t.tell(streamEvent{stream: s, kind: streamOpened, opened: opened}, done) {
		return
	}
	select {
	case <-opened:
	case <-done:
		return
	}
	for more := true; more; more = t.read(s, done) {
		s.mu.Lock()
		s.waitLocked()
		s.mu.Unlock()
	}
	t.tell(streamEvent{stream: s, kind: streamLost}, done)
}

// read passes one packet on. It borrows a buffer only when there is something to read.
func (t *streams) read(s *stream, done <-chan struct{}) bool {
	if s.readable != nil && s.readable.WaitRead() != nil {
		return false
	}
	buffer := t.buffers.Get().(*[attach.MaxPacket]byte)
	p, err := attach.ReadPacket(s.conn, buffer[:])
	if err != nil {
		t.buffers.Put(buffer)
		return false
	}
	return t.tell(streamEvent{stream: s, kind: streamPacket, packet: buffer, length: len(p)}, done)
}

func (t *streams) tell(e streamEvent, done <-chan struct{}) bool {
	select {
	case t.inbox <- e:
		return true
	case <-done:
		return false
	}
}
