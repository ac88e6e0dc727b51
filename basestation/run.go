package basestation

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Run serves until ctx ends, then drains, and returns when every goroutine has ended
// and every connection is closed. An error is one of the store, without which a node
// does not serve. Run may be called once.
func (s *Server) Run(ctx context.Context) error {
	// Two contexts: when ctx ends the draining begins, when work ends all stops.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.tasks.begin(work)
	var helpers, loop, inputs sync.WaitGroup

	failed := make(chan error, 4)
	help := func(name string, run func(context.Context) error) {
		helpers.Go(func() {
			if err := run(work); err != nil && work.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	s.registry.OnBlock(s.blocks.add)
	help("registry", s.registry.Run)
	help("cookies", s.keepCookies)
	if s.pusher != nil {
		help("push", s.pusher.Run)
	}
	if s.fleet.fleet != nil {
		help("fleet", s.fleet.fleet.Run)
	}

	full := make(chan *arrived, readAhead)
	loop.Go(func() { s.loop(work, full) })
	acceptor := newAcceptor(s, s.loopDone)
	err := s.begin(ctx, failed)
	if err == nil {
		for _, socket := range s.net.udp {
			r := newReader(socket, full)
			inputs.Go(func() { r.run(s.loopDone) })
		}
		for _, l := range s.net.tcp {
			inputs.Go(func() { acceptor.accept(l) })
		}
		s.tellRestart()
		helpers.Go(func() { s.reconcile(work) })
		close(s.ready)
		select {
		case <-ctx.Done():
			s.drain(work)
		case err = <-failed:
		}
	} else if ctx.Err() != nil {
		err = nil // asked to stop while it began
	}

	// What comes in ends first, then what works on it, then what it is written to.
	s.net.closeListeners()
	stop()
	loop.Wait()
	s.net.close()
	acceptor.stop()
	inputs.Wait()
	s.tasks.stop()
	helpers.Wait()
	s.Close()
	return err
}

// beginTime bounds what a node waits for its records when it starts.
const beginTime = 30 * time.Second

// begin waits for what a node needs before it serves.
func (s *Server) begin(ctx context.Context, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	c, err := readCookies(ctx, s.config.Store, s.keys.Seal(), !s.config.Fleet)
	if err != nil {
		return err
	}
	s.useCookies(c)
	ready := []<-chan struct{}{s.registry.Ready()}
	if s.fleet.fleet != nil {
		ready = append(ready, s.fleet.fleet.Ready())
	}
	for _, r := range ready {
		select {
		case <-r:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the records were not read: %w", ctx.Err())
		}
	}
	return nil
}
