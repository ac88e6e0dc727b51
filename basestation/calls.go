package basestation

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Figures of call numbers.
const (
	// callsAtOnce and callEvery are how many numbers one device gets: twice the codes that it
	// may show in an hour, and then more than it may show in a day.
	callsAtOnce = 6
	callEvery   = 10 * time.Minute
	// callsPerMinute is how many a node gives out in all: a million and a half people a
	// month call a hotline, and of a million numbers 300 are good at a time.
	callsPerMinute = 60
	// missesAtOnce and missEvery are how many wrong numbers one source may ask for: who
	// types what he hears misses now and then. Right ones do not count. So a source
	// has 10 guesses in the five minutes of a number.
	missesAtOnce = 5
	missEvery    = time.Minute
	// missesPerMinute is how many wrong numbers a node takes in all, from however many
	// sources.
	missesPerMinute = 600
	// callTime is how long the store may take.
	callTime = 10 * time.Second
)

// A callBook is the registry as the hub uses it for call numbers. It waits for the store.
type callBook interface {
	GiveCall(context.Context, identity.ID) (number string, err error)
	FindCall(ctx context.Context, number string) (identity.ID, error)
	EndCall(ctx context.Context, number string, device identity.ID) error
}

// calls are the limits of call numbers, and the questions under way.
type calls struct {
	given   *pace.Table[identity.Fingerprint] // numbers, by device
	all     pace.Pace
	misses  *pace.Table[netip.Prefix] // by who asks
	missed  pace.Pace
	finding map[uint64]struct{} // by the client's index
	live    []givenCall         // oldest first: all live equally long
}

// A givenCall is a number to be taken back when its time is over.
type givenCall struct {
	number string
	device identity.ID
	until  time.Duration
}

func newCalls() calls {
	return calls{
		given: pace.NewTable[identity.Fingerprint](callsAtOnce, callEvery), all: pace.New(callsPerMinute+1, time.Minute/callsPerMinute),
		misses: pace.NewTable[netip.Prefix](missesAtOnce, missEvery), missed: pace.New(missesPerMinute+1, time.Minute/missesPerMinute),
		finding: map[uint64]struct{}{},
	}
}

// call gives a device a number, or takes one back.
func (h *hub) call(now time.Duration, from attach.Peer, m attach.Call) {
	id := from.Fingerprint.ID()
	if m.Over != "" {
		if h.told.Allow(now, from.Fingerprint) {
			h.endCall(m.Over, id)
		}
		return
	}
	no := func(now time.Duration) {
		_ = h.tell(now, from.Index, attach.KindCallNumber, attach.CallNumber{Request: m.Request}) // it says so itself after a while
	}
	if !h.calls.given.Allow(now, from.Fingerprint) || !h.calls.all.Allow(now) {
		h.metrics.limited.Inc()
		no(now)
		return
	}
	started := h.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		number, err := h.book.GiveCall(ctx, id)
		h.post(func(now time.Duration) {
			if err != nil {
				h.chatter.Warn("no call number for a device", "device", id, "err", err)
				no(now)
				return
			}
			h.gave(now, from, m.Request, number)
		})
	})
	if !started {
		no(now)
	}
}

func (h *hub) gave(now time.Duration, from attach.Peer, request uint64, number string) {
	h.metrics.calls.Inc()
	id := from.Fingerprint.ID()
	h.calls.live = append(h.calls.live, givenCall{number, id, now + registry.CallLife})
	err := h.tell(now, from.Index, attach.KindCallNumber,
		attach.CallNumber{Request: request, Number: number, Seconds: uint16(registry.CallLife / time.Second)})
	if err != nil {
		h.endCall(number, id)
	}
}

// endCall forgets a number. What is not forgotten is over by itself after its time.
func (h *hub) endCall(number string, device identity.ID) {
	h.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		if err := h.book.EndCall(ctx, number, device); err != nil {
			h.chatter.Warn("a call number was not taken back", "device", device, "err", err)
		}
	})
}

// sweepCalls takes back the numbers whose time is over.
func (h *hub) sweepCalls(now time.Duration) {
	for len(h.calls.live) > 0 && now >= h.calls.live[0].until {
		h.endCall(h.calls.live[0].number, h.calls.live[0].device)
		h.calls.live = h.calls.live[1:]
	}
}

// clientFinds resolves a call number. A yes goes out at once; every no after noAfter: of
// a number that nobody has, one that is over, and of who asks too much.
func (h *hub) clientFinds(now time.Duration, from attach.Peer, f attach.Find) {
	if _, twice := h.calls.finding[from.Index]; twice || h.questions[from.Index] != nil {
		return // one question a link
	}
	h.metrics.finds.Inc()
	h.calls.finding[from.Index] = struct{}{}
	h.nos.push(now+noAfter, from.Index)
	source := pace.Source(h.addressOf(from.Address))
	if !h.calls.misses.Allow(now, source) || !h.calls.missed.Allow(now) {
		h.metrics.limited.Inc()
		return
	}
	started := h.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, noAfter) // later nobody hears of it
		defer cancel()
		id, err := h.book.FindCall(ctx, f.Number)
		if err != nil {
			if !errors.Is(err, registry.ErrNoCall) {
				h.chatter.Warn("a call number was not looked for", "err", err)
			}
			return
		}
		h.post(func(now time.Duration) { h.found(now, from.Index, source, id) })
	})
	if !started {
		h.metrics.limited.Inc()
	}
}

func (h *hub) found(now time.Duration, index uint64, source netip.Prefix, id identity.ID) {
	if _, open := h.calls.finding[index]; !open {
		return
	}
	delete(h.calls.finding, index)
	h.calls.misses.GiveBack(source)
	h.calls.missed.GiveBack()
	h.metrics.found.Inc()
	_ = h.tell(now, index, attach.KindFound, attach.Found{Device: id}) // a client that left needs no answer
}

// sayNobody answers a question whose time has come; false when it was of another kind.
func (h *hub) sayNobody(now time.Duration, index uint64) bool {
	if _, open := h.calls.finding[index]; !open {
		return false
	}
	delete(h.calls.finding, index)
	_ = h.tell(now, index, attach.KindFound, attach.Found{})
	return true
}
