package basestation

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	s.registry.OnBlock(s.blocked)
	help("registry", s.registry.Run)
	if s.pusher != nil {
		help("push", s.pusher.Run)
	}

	full := make(chan *arrived, readAhead)
	loop.Go(func() { s.loop(work, full) })
	acceptor := newAcceptor(s, s.loopDone)
	err := s.begin(ctx, work, failed)
	if err == nil {
		for _, socket := range s.net.udp {
			r := newReader(socket, full)
			inputs.Go(func() { r.run(s.loopDone) })
		}
		for _, l := range s.net.tcp {
			inputs.Go(func() { acceptor.accept(l) })
		}
		helpers.Go(func() { s.tellRestart(work) })
		close(s.ready)
		select {
		case <-ctx.Done():
			s.drain(work)
		case err = <-failed:
		}
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

// begin waits for what a node needs before it serves.
func (s *Server) begin(ctx, _ context.Context, failed <-chan error) error {
	select {
	case <-s.registry.Ready():
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return errors.New("stopped before the records were read")
	}
}
