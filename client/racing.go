package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// headStart is what remembered addresses have before the network is asked, or
	// the basestation: in most cases neither need be bothered.
	headStart = 250 * time.Millisecond

	// dialTime bounds everything until a session stands. A device itself waits
	// 5 s for a handshake.
	dialTime = 6 * time.Second

	// farTime is the same where a basestation is asked, which says no after a second
	// and is asked again then.
	farTime = 10 * time.Second

	// moreFor is how long a race goes on after the first session stands, where a
	// better one is of use.
	moreFor = 5 * time.Second
)

// A winner is a session with what it stands on. Whoever has one calls leave.
type winner struct {
	*session.Client
	meeting *meeting      // nil: dialled directly
	more    <-chan winner // sessions that came later, until it is closed; nil: none will
	endRace func()        // ends what still runs of the race, and waits for it; may be nil
}

// leave closes the session and what was there for it alone.
func (w winner) leave() {
	w.Client.Close()
	if w.endRace != nil {
		w.endRace()
	}
	if w.more != nil {
		for late := range w.more {
			late.leave()
		}
	}
	if w.meeting != nil {
		w.meeting.release()
	}
}

// race dials the known addresses, each one that is heard, and asks the basestation. The
// first session wins; without one the error has every reason.
func (h *Home) race(parent context.Context, c call, o DialOptions) (winner, error) {
	config := session.DialConfig{Key: h.key, Pin: c.pin, Paths: o.Paths, Resumption: h.resumption, WarmConns: -1, Log: o.Log}
	if o.Tunnels {
		config.WarmConns = 0
	}
	far := !o.NoBasestation && !c.device.Basestation.IsZero() && c.device.ID != ""
	limit := dialTime
	if far {
		limit = farTime
	}
	// A race may go on when its caller has a session, and so has a life of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), limit)
	stop := context.AfterFunc(parent, cancel)
	defer stop()
	r := &racing{ctx: ctx, config: config, won: make(chan winner), lost: make(chan struct{})}
	switch {
	case o.RelayOnly && !far:
		r.failed(ErrNoBasestation)
	case !o.RelayOnly:
		if len(c.addresses) > 0 {
			r.start(c.addresses)
		}
		if find := o.findTime(); c.hearing != "" && find > 0 {
			r.running.Go(func() { r.listen(c, find) })
		}
	}
	if far {
		r.running.Go(func() { r.introduce(h, c, o) })
	}
	over := make(chan struct{})
	go func() {
		r.running.Wait()
		close(over)
	}()
	select {
	case w := <-r.won:
		if o.Tunnels && w.meeting != nil {
			w.more, w.endRace = r.goOn(cancel, over)
			return w, nil
		}
		cancel()
		w.endRace = func() { <-over }
		return w, nil
	case <-over:
		cancel()
		return winner{}, r.err(parent)
	}
}

type racing struct {
	ctx     context.Context
	config  session.DialConfig
	won     chan winner
	running sync.WaitGroup
	lost    chan struct{} // closed when the first attempt has failed

	mu   sync.Mutex
	errs []error
}

// goOn lets the race go on for a while; what else comes is in the channel, which is
// closed at the end. The end may be called for early, and waits for all attempts.
func (r *racing) goOn(cancel func(), over <-chan struct{}) (more <-chan winner, end func()) {
	ch := make(chan winner, 4) // one of each kind
	timer := time.AfterFunc(moreFor, cancel)
	go func() {
		defer close(ch)
		defer timer.Stop()
		for {
			select {
			case w := <-r.won:
				select {
				case ch <- w:
				default:
					w.leave()
				}
			case <-over:
				cancel()
				return
			}
		}
	}()
	return ch, func() { cancel(); <-over }
}

func (r *racing) err(parent context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := parent.Err(); err != nil && len(r.errs) == 0 {
		return err
	}
	if len(r.errs) == 0 {
		return session.ErrNoAddress
	}
	return errors.Join(r.errs...)
}

func (r *racing) start(addresses []string) {
	r.running.Go(func() {
		s, err := session.Dial(r.ctx, addresses, r.config)
		if err != nil {
			r.failed(err)
			return
		}
		r.offer(winner{Client: s})
	})
}

// offer hands a session over, or closes it when none is wanted any more.
func (r *racing) offer(w winner) {
	select {
	case r.won <- w:
	case <-r.ctx.Done():
		w.leave()
	}
}

// listen asks the network, and dials what it hears as long as it is no address
// that is being tried already.
func (r *racing) listen(c call, find time.Duration) {
	if len(c.addresses) > 0 && !r.waited(headStart) {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, find)
	defer cancel()
	heard := false
	err := hear(ctx, c.hearing, func(address string) {
		heard = true
		if !slices.Contains(c.addresses, address) {
			r.start([]string{address})
		}
	})
	switch {
	case err != nil:
		r.failed(fmt.Errorf("mDNS: %w", err))
	case !heard && r.ctx.Err() == nil:
		r.failed(ErrNotAnswered)
	}
}

// waited gives the attempts under way a head start, unless one has failed. It
// returns false when the race is over.
func (r *racing) waited(start time.Duration) bool {
	select {
	case <-time.After(start):
	case <-r.lost:
	case <-r.ctx.Done():
	}
	return r.ctx.Err() == nil
}

func (r *racing) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errs = append(r.errs, err); len(r.errs) == 1 {
		close(r.lost)
	}
}
