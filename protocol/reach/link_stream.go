package reach

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	streamDialTime  = 5 * time.Second
	streamWriteTime = 5 * time.Second // a connection that takes nothing for so long is given up
	lastWordsTime   = time.Second     // to say goodbye, when the link ends
	// streamAgain is how long after its end a stream is not opened again. It is
	// opened when there is something to send, and what is sent again slows down by
	// itself, so this only keeps one refusal from following the other.
	streamAgain = 500 * time.Millisecond
	// streamQueue is how many packets may wait to be written: what is sent
	// meanwhile, and sent again if it was lost here.
	streamQueue = 16
)

// A stream is a TCP connection to one address of the basestation, in which packets
// travel as they do in datagrams: what does not fit is lost. A dead one stays
// noted for streamAgain.
type stream struct {
	to    netip.AddrPort
	out   chan []byte
	end   context.CancelFunc // of the connection, at once
	leave chan struct{}      // closed by finish

	// Guarded by mu of the link.
	up      bool
	leaving bool // by finish
	dead    bool // by cut
	ended   bool
	endedAt time.Duration
}

// streamLocked returns the stream to an address and opens it if there is none; nil
// when it failed just now, or the link ends.
func (l *Link) streamLocked(to netip.AddrPort) *stream {
	now := l.nowLocked()
	if s := l.streams[to]; s != nil && !s.ended && !s.leaving && !s.dead {
		return s
	} else if l.running == nil || s != nil && s.ended && !s.dead && now < s.endedAt+streamAgain {
		return nil
	}
	ctx, cancel := context.WithCancel(l.ctx)
	s := &stream{to: to, out: make(chan []byte, streamQueue), end: cancel, leave: make(chan struct{})}
	l.streams[to] = s
	l.running.Go(func() { l.runStream(ctx, s) })
	return s
}

// send queues a packet, or loses it.
func (s *stream) send(packet []byte) {
	select {
	case s.out <- append([]byte(nil), packet...):
	default:
	}
}

// cut ends the connection at once, for one that is as good as dead: another may
// take its place.
func (s *stream) cut() {
	s.dead = true
	s.end()
}

// finish ends the connection when what is queued is written.
func (s *stream) finish() {
	if !s.leaving {
		s.leaving = true
		close(s.leave)
	}
}

// runStream holds one connection.
func (l *Link) runStream(ctx context.Context, s *stream) {
	err := l.carry(ctx, s)
	s.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	wasUp := s.up
	s.up, s.ended, s.endedAt = false, true, l.nowLocked()
	l.log.Debug("connection to the basestation ended", "to", s.to, "error", err)
	if node, ok := l.link.Peer(); ok && wasUp && !s.dead && node == s.to && l.ways.way == overTCP && l.running != nil {
		l.link.Check(l.nowLocked()) // opens another
	}
	poke(l.wake)
}

// carry dials and moves packets until the connection ends.
func (l *Link) carry(ctx context.Context, s *stream) error {
	dialing, cancel := context.WithTimeout(ctx, streamDialTime)
	defer cancel()
	conn, err := l.dial(dialing, s.to)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-s.leave: // the writer closes it, in time
		default:
			conn.Close()
		}
	})
	defer stop()
	defer conn.Close()
	l.mu.Lock()
	s.up = true
	l.mu.Unlock()
	poke(l.wake)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write(ctx, conn)
	}()
	err = l.read(ctx, conn)
	s.end()
	select {
	case <-s.leave: // the writer says the last words, and closes
	default:
		conn.Close()
	}
	<-written
	return err
}

func dialStream(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	// The link's own keep-alives find out whether anybody is there.
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, "tcp", to.String())
}

func (l *Link) read(ctx context.Context, conn net.Conn) error {
	r := bufio.NewReader(conn)
	buf := make([]byte, attach.MaxPacket)
	for {
		packet, err := attach.ReadPacket(r, buf)
		if err != nil {
			return err
		}
		select {
		case l.packets <- arrived{overTCP, append([]byte(nil), packet...)}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write sends the preface and then what is queued; at the end it closes conn.
func (s *stream) write(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	b := attach.AppendPreface(make([]byte, 0, attach.MaxPacket+4), attach.StreamAttach)
	for {
		select {
		case p := <-s.out:
			b = attach.AppendPacket(b, p)
		case <-s.leave:
			s.lastWords(conn, b)
			return
		case <-ctx.Done():
			select {
			case <-s.leave:
				s.lastWords(conn, b)
			default:
			}
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(streamWriteTime))
		if _, err := conn.Write(b); err != nil {
			return
		}
		b = b[:0]
	}
}

func (s *stream) lastWords(conn net.Conn, b []byte) {
	for len(s.out) > 0 {
		b = attach.AppendPacket(b, <-s.out)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(lastWordsTime))
	_, _ = conn.Write(b)
}

// tidyLocked ends the streams that nobody needs: all of them when the link is over
// UDP, else those to others than its node.
func (l *Link) tidyLocked(now time.Duration) {
	_, waiting := l.link.Waiting()
	node, _ := l.link.Peer()
	settled := !waiting && l.link.State() == attach.StateAttached
	for to, s := range l.streams {
		switch {
		case s.ended && now >= s.endedAt+streamAgain:
			delete(l.streams, to)
		case !s.ended && settled && (l.ways.way == overUDP || to != node):
			s.finish()
		}
	}
}
