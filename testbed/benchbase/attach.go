package main

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// again is when a worker lets a link look for lost packets.
const again = 100 * time.Millisecond

// grow attaches devices until there are count of them, window at a time, no more
// than rate a second if that is not zero.
func (f *fleet) grow(ctx context.Context, count, window int, rate float64) error {
	missing := count - int(f.attached.Load())
	if missing <= 0 {
		return nil
	}
	tickets := make(chan *port)
	go func() {
		defer close(tickets)
		begin := time.Now()
		for i := range missing {
			if rate > 0 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(begin.Add(time.Duration(float64(i) / rate * float64(time.Second))))):
				}
			}
			select {
			case <-ctx.Done():
				return
			case tickets <- f.ports[i%len(f.ports)]:
			}
		}
	}()
	var all sync.WaitGroup
	errs := make(chan error, window)
	for range min(window, len(f.ports)) {
		all.Go(func() {
			for p := range tickets {
				if err := p.attach(ctx); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// attach brings one device in, and returns when it is attached.
func (p *port) attach(ctx context.Context) error {
	key, err := identity.Generate()
	if err != nil {
		return err
	}
	link, err := attach.NewLink(attach.LinkConfig{
		Key: key, Roots: []attach.Root{p.fleet.station.root}, Basestations: []netip.AddrPort{p.fleet.station.address},
		Firmware: "1.0.0", Send: p.send,
		Event: func(e attach.LinkEvent) {
			if e.Err != nil {
				p.fleet.failed.Add(1)
			}
		},
	})
	if err != nil {
		return err
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	p.link = link
	p.tick()
	p.flush()
	p.mu.Unlock()
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		select {
		case <-p.finished:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			timer.Reset(again)
			p.mu.Lock()
			if p.link != nil {
				p.tick()
				p.flush()
			}
			p.mu.Unlock()
		}
	}
}
