package session

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// defaultWarm covers a player that opens a few connections at once, and
	// costs the device some 20 KiB each.
	defaultWarm = 4
	// manyWarm is how many a client keeps that has found none left: browsers
	// open six at once, walls of cameras more. With all paired places taken
	// (256) they are 5 MiB on the device. Through a relay it keeps no more than it
	// asked for, since each costs the relay two.
	manyWarm = 8
	// warmCalm is how long no tunnel must have been opened before connections
	// are warmed: in a storm handshakes would only slow it down.
	warmCalm = 150 * time.Millisecond
	// warmLife is how long a connection waits. The device lets it for an hour;
	// NATs and firewalls forget idle TCP sooner (RFC 5382: two hours, seen: five
	// minutes).
	warmLife = 4 * time.Minute
	// warmRetry is the pause after a connection could not be opened.
	warmRetry = 5 * time.Second
	// warmQuiet is when a client that opens no tunnels stops being kept warm.
	// The next tunnel goes over the standing session and warms it again.
	warmQuiet = 10 * time.Minute

	maxConnectAnswer = 64 << 10
)

// warmPool keeps TLS connections whose handshake is done, each for one tunnel.
// One goroutine fills it.
type warmPool struct {
	door *tcpDoor
	want int
	most int // kept once there was none left
	log  *slog.Logger

	stop context.CancelFunc
	done chan struct{}
	wake chan struct{} // holds one; more coalesce

	mu     sync.Mutex
	closed bool
	used   time.Time // when the last tunnel was opened
	short  bool      // there was none left since the client was last quiet
	conns  []warmConn
}

type warmConn struct {
	*secured
	since time.Time
}

func newWarmPool(door *tcpDoor, want, most int, log *slog.Logger) *warmPool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &warmPool{
		door: door, want: want, most: max(want, most), log: log,
		stop: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1), used: time.Now(),
	}
	go p.fill(ctx)
	return p
}

// fill keeps the pool as it should be until ctx ends.
func (p *warmPool) fill(ctx context.Context) {
	defer close(p.done)
	timer := time.NewTimer(warmCalm)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(p.step(ctx))
	}
}

// step does one thing and says when to come again.
func (p *warmPool) step(ctx context.Context) time.Duration {
	now := time.Now()
	p.dropOld(now)
	p.mu.Lock()
	quiet := now.Sub(p.used)
	if quiet > warmQuiet {
		p.short = false
	}
	missing := p.wanted() - len(p.conns)
	p.mu.Unlock()
	switch {
	case quiet < warmCalm:
		return warmCalm - quiet
	case quiet > warmQuiet || missing <= 0:
		return warmLife / 8
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.door.dial(ctx, "http/1.1")
	if err != nil {
		p.log.Debug("no warm connection", "address", p.door.address, "error", err)
		return warmRetry
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.conns = append(p.conns, warmConn{conn, time.Now()})
	}
	p.mu.Unlock()
	if closed {
		_ = conn.Close()
	}
	return 0
}

// wanted is called with the lock held.
func (p *warmPool) wanted() int {
	if p.short {
		return p.most
	}
	return p.want
}

func (p *warmPool) dropOld(now time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.conns) && now.Sub(p.conns[n].since) > warmLife {
		n++
	}
	old := p.conns[:n:n]
	p.conns = p.conns[n:]
	p.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

// take returns a connection that is alive as far as one can see, or nil. The
// youngest goes first: it is the likeliest to be.
func (p *warmPool) take() *secured {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	for len(p.conns) > 0 {
		last := len(p.conns) - 1
		c := p.conns[last]
		p.conns = p.conns[:last]
		if time.Since(c.since) <= warmLife && c.alive() {
			return c.secured
		}
		go c.Close() // its goodbye may block
	}
	p.short = true
	return nil
}

// alive looks without waiting whether the device has closed the connection. A
// device says nothing before it is asked, so any byte is a refusal too.
func (s *secured) alive() bool {
	if s.ready == nil {
		return true // cannot look; the request will tell
	}
	var p [1]byte
	n, err := s.ready.TryRead(p[:])
	return n == 0 && err == nil
}

// connect opens a tunnel on a warm connection. It returns neither a stream nor
// an error when there was none, or only dead ones: nothing of the tunnel was
// sent on those but the request, so it may be asked elsewhere.
func (p *warmPool) connect(ctx context.Context, service string) (Stream, error) {
	for {
		conn := p.take()
		if conn == nil {
			return nil, nil
		}
		stream, err := conn.connect(ctx, service)
		if !errors.Is(err, errNoAnswer) {
			return stream, err
		}
	}
}

// errNoAnswer means that a connection ended before the first byte of an answer.
var errNoAnswer = errors.New("connection ended without an answer")

func (s *secured) connect(ctx context.Context, service string) (Stream, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	stream, err := s.ask(service)
	if !stop() {
		_ = s.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return stream, nil
}

func (s *secured) ask(service string) (Stream, error) {
	if _, err := io.WriteString(s.Conn, "CONNECT "+service+" HTTP/1.1\r\nHost: "+service+"\r\n\r\n"); err != nil {
		return nil, errNoAnswer
	}
	limited := &io.LimitedReader{R: s.Conn, N: maxConnectAnswer}
	reader := bufio.NewReader(limited)
	if _, err := reader.Peek(1); err != nil {
		return nil, errNoAnswer
	}
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, refused(response)
	}
	early := make([]byte, reader.Buffered())
	if _, err := io.ReadFull(reader, early); err != nil {
		return nil, err
	}
	return newTLSStream(s.Conn, s.link, s.ready, early), nil
}

func (p *warmPool) close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	p.stop()
	<-p.done
	for _, c := range conns {
		_ = c.link.Close() // without TLS's goodbye, which may block: nothing was said
	}
}
