package session

import (
	"context"
	"errors"
	"time"
)

// attemptDelay is how long an attempt has for itself before the next one
// starts beside it (RFC 8305 §5 recommends 250 ms).
const attemptDelay = 250 * time.Millisecond

// race runs n attempts, each after the last one failed or has had attemptDelay,
// and returns the first success. The context of the others ends then, and those
// that succeed nonetheless are closed. Without a success it waits for all and
// returns every error.
func race(ctx context.Context, n int, run func(ctx context.Context, i int) (*Client, error)) (*Client, error) {
	type result struct {
		client *Client
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	running, next := 0, 0
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	start := func() {
		if next == n || next > 0 && ctx.Err() != nil {
			return
		}
		i := next
		next++
		running++
		go func() {
			client, err := run(ctx, i)
			results <- result{client, err}
		}()
		timer.Reset(attemptDelay)
	}
	closeLosers := func() {
		for range running {
			if r := <-results; r.err == nil {
				r.client.Close()
			}
		}
	}
	var errs []error
	for start(); running > 0; {
		select {
		case <-timer.C:
			start()
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				go closeLosers()
				return r.client, nil
			}
			errs = append(errs, r.err)
			start()
		}
	}
	return nil, errors.Join(errs...)
}
