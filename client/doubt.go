package client

import (
	"context"
	"errors"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// A session whose network has changed under it says nothing: its packets go to an
// address where nobody listens, or come from one that is not ours any more. TCP
// and QUIC notice after most of a minute. A person who opens a page does not wait
// so long, so a request without an answer is reason to ask, and to dial beside it.
const (
	// doubtAfter is how long a request may wait before the session is doubted,
	// and doubtAgain when it still waits. Far devices answer within half a
	// second; services that are slow cost one small request more.
	doubtAfter = 500 * time.Millisecond
	doubtAgain = 2 * time.Second

	// doubtDial is how long the session has to answer before a new one is
	// dialled, and doubtFor before that takes its place.
	doubtDial = 200 * time.Millisecond
	doubtFor  = 700 * time.Millisecond

	// doubtMost ends the attempt to find anything better.
	doubtMost = 10 * time.Second

	// deafAfter is when a session that was replaced is cut, if it has not answered
	// by then, so that programs which wait for it notice. One that has answered
	// was merely slow, and keeps its tunnels.
	deafAfter = time.Second

	// mostRetired bounds those that are kept.
	mostRetired = 3
)

// errSilent is why a session was replaced.
var errSilent = errors.New("it did not answer any more")

// Doubt says that something waits for an answer over this line for longer than
// is usual. It never blocks.
func (l *Line) Doubt() {
	select {
	case l.doubts <- struct{}{}:
	default:
	}
}

// attempt opens a tunnel over conn, raising doubts while that takes long. It
// returns errSilent when conn was replaced meanwhile.
func (l *Line) attempt(ctx context.Context, conn *Conn, gone <-chan struct{}, service, typ string) (session.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		stream session.Stream
		err    error
	}
	results := make(chan result, 1)
	go func() {
		stream, err := conn.Connect(ctx, service, typ)
		results <- result{stream, err}
	}()
	slow := time.NewTimer(doubtAfter)
	defer slow.Stop()
	for {
		select {
		case r := <-results:
			return r.stream, r.err
		case <-slow.C:
			l.Doubt()
			slow.Reset(doubtAgain)
		case <-gone:
			cancel()
			r := <-results
			if r.err != nil && conn.Err() == nil {
				r.err = errSilent
			}
			return r.stream, r.err
		}
	}
}

// doubt asks conn for a sign of life, and dials anew when there is none at once.
// It returns the new session if it is there first, and otherwise nil.
func (l *Line) doubt(ctx context.Context, conn *Conn) *Conn {
	ctx, cancel := context.WithTimeout(ctx, doubtMost)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Hello(ctx)
		answered <- err
	}()
	select {
	case <-answered:
		return nil
	case <-time.After(doubtDial):
	}
	dialled := make(chan *Conn, 1)
	go func() {
		next, err := l.try(ctx, doubtMost)
		if api.IsCode(err, api.CodeForbidden) {
			conn.Close() // it would be refused too; Run finds out why
		}
		dialled <- next
	}()
	next := l.better(conn, cancel, answered, dialled)
	cancel()
	<-answered
	return next
}

// better waits for whichever answers first; the old session has until doubtFor.
// It leaves one value in answered, and none in dialled.
func (l *Line) better(conn *Conn, cancel func(), answered chan error, dialled <-chan *Conn) *Conn {
	grace := time.NewTimer(doubtFor - doubtDial)
	defer grace.Stop()
	var next *Conn
	for waiting := dialled; ; {
		select {
		case err := <-answered:
			answered <- err
			cancel()
			if waiting != nil {
				next = <-waiting
			}
			if next != nil && err == nil {
				next.Close()
				next = nil
			}
			return next
		case next = <-waiting:
			waiting = nil
			if next == nil {
				continue // then only the old one is left, until doubtMost
			}
			select {
			case err := <-answered:
				answered <- err
				if err == nil {
					next.Close()
					next = nil
				}
			case <-grace.C:
			case <-conn.Done():
			}
			return next
		}
	}
}

// retire keeps a replaced session for the tunnels in it if it is still alive.
func (l *Line) retire(ctx context.Context, conn *Conn) {
	defer conn.Close()
	select {
	case l.retired <- struct{}{}:
		defer func() { <-l.retired }()
	default:
		return
	}
	asking, cancel := context.WithTimeout(ctx, deafAfter)
	defer cancel()
	if _, err := conn.Hello(asking); err != nil {
		return
	}
	look := time.NewTicker(idleLook)
	defer look.Stop()
	for conn.Busy() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		case <-conn.Done():
			return
		}
	}
}
