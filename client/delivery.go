package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/session"
)

// What a path delivers is found by using it: the time that a small question takes, and
// how fast a document comes that each device has. A name says little: at 50 ms and
// one lost packet in a hundred, a relay whose TCP uses BBR was measured to carry
// fifty times what QUIC carries directly.
const (
	// probeAsks is how many small questions are asked: the fastest answer counts.
	probeAsks = 3
	// probeDocument is some 20 KiB of JSON that any paired client may read, and
	// probeCopies of it are fetched at once: long enough for a sender to meet a
	// loss, little enough for a telephone.
	probeDocument = "/v1/openapi.json"
	probeCopies   = 8
	// probeTime bounds all of it. A path that has not delivered by then is told
	// by what came.
	probeTime = 3 * time.Second
	// probeSize is what is weighed: a second of video, or a page with its pictures.
	probeSize = 1 << 20
)

// A delivery is what a path does, as seen from this side.
type delivery struct {
	roundTrip time.Duration
	goodput   float64 // bytes in a second, towards this side
}

func (d delivery) String() string {
	return fmt.Sprintf("%v, %.1f MB/s", d.roundTrip.Round(100*time.Microsecond), d.goodput/1e6)
}

// cost is how long a new stream takes to bring probeSize.
func (d delivery) cost() time.Duration {
	if d.goodput <= 0 {
		return time.Hour
	}
	return d.roundTrip + time.Duration(probeSize/d.goodput*float64(time.Second))
}

// deliver measures a session.
func (c *Conn) deliver(ctx context.Context) (d delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	for range probeAsks {
		began := time.Now()
		if _, err := c.Hello(ctx); err != nil {
			return d, err
		}
		if took := time.Since(began); d.roundTrip == 0 || took < d.roundTrip {
			d.roundTrip = took
		}
	}
	began := time.Now()
	var fetching sync.WaitGroup
	var mu sync.Mutex
	got := int64(0)
	for range probeCopies {
		fetching.Go(func() {
			n := c.fetch(ctx)
			mu.Lock()
			got += n
			mu.Unlock()
		})
	}
	fetching.Wait()
	// The question's own round trip is no part of how fast the answer came.
	took := max(time.Since(began)-d.roundTrip, 100*time.Microsecond)
	d.goodput = float64(got) / took.Seconds()
	return d, nil
}

// fetch returns how many bytes of the document came.
func (c *Conn) fetch(ctx context.Context) int64 {
	response, err := c.Do(ctx, http.MethodGet, probeDocument, nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if Success(response) != nil {
		return 0
	}
	n, _ := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBytes))
	return n
}

// rank orders paths that need no measuring: lower is better. Direct ones are compared by
// it, since TCP carries more for less wherever both get through.
func (c *Conn) rank() int {
	rank := 0
	if c.Via() == session.ViaPunched {
		rank = 1
	}
	if c.Path() == session.PathQUIC {
		rank += 2
	}
	if c.Via() == session.ViaRelay {
		rank = 4
	}
	return rank
}

// bestRank is that of a path of which none is better.
const bestRank = 0

// relayedMargin and relayedGrace are how much dearer a direct path may be and still be
// preferred to the relay: it needs nobody else, measuring is not exact, and what
// brings a megabyte in a third of a second is fast enough for several cameras.
const (
	relayedMargin = 1.25
	relayedGrace  = 250 * time.Millisecond
)

func prefersDirect(direct, relayed delivery) bool {
	return float64(direct.cost()) <= relayedMargin*float64(relayed.cost())+float64(relayedGrace)
}

// better tells whether next is to take the place of now.
func better(ctx context.Context, now, next *Conn) bool {
	relayed, direct := now, next
	switch a, b := now.Via() == session.ViaRelay, next.Via() == session.ViaRelay; {
	case a && b:
		return false
	case !a && !b:
		return next.rank() < now.rank()
	case b:
		relayed, direct = next, now
	}
	there, err := direct.deliver(ctx)
	if err != nil {
		return direct == now && ctx.Err() == nil
	}
	here, err := relayed.deliver(ctx)
	if err != nil {
		return relayed == now && ctx.Err() == nil
	}
	now.log.Debug("paths compared", "device", now.device.String(), "direct", there.String(), "relay", here.String())
	return prefersDirect(there, here) == (direct == next)
}
