package attach

import (
	"bytes"
	"errors"
	"math/bits"
	"time"
)

// Control messages are numbered, acknowledged and sent again until they are.
const (
	// ackWindow is how many numbers may be on their way: the bits of an
	// acknowledgement.
	ackWindow = 32
	// maxWaiting bounds what a sender keeps: at most 8 kB of a peer that does
	// not answer. More is refused to the caller, who knows what can wait.
	maxWaiting = 8
	// maxTries with doubling waits from firstWait is 11.75 s. At 10 % loss each
	// way a message and its acknowledgement fail six times in a row once in
	// 20,000.
	maxTries  = 6
	firstWait = 250 * time.Millisecond
	maxWait   = 4 * time.Second
	// aliveTime after a peer was heard it is not given up: as long as all tries take.
	aliveTime = 12 * time.Second
)

// ErrBusy means that too many control messages are not acknowledged yet.
var ErrBusy = errors.New("too many control messages unacknowledged")

// waitAfter is the wait after the n-th try, counted from 0.
func waitAfter(n int) time.Duration { return min(firstWait<<n, maxWait) }

// A waiting message is sent and not acknowledged.
type waiting struct {
	control
	tries int
	due   time.Duration
}

// A sender is the sending half of one control channel. The zero value is ready;
// its first number is 1.
type sender struct {
	last  uint32 // number of the latest message
	queue []waiting
}

// add numbers a message and makes it due at once. It keeps no part of body.
func (s *sender) add(now time.Duration, k Kind, body []byte) error {
	if len(s.queue) >= maxWaiting {
		return ErrBusy
	}
	if len(body) > MaxBody {
		return ErrTooLarge
	}
	s.last++
	s.queue = append(s.queue, waiting{control: control{s.last, k, bytes.Clone(body)}, due: now})
	return nil
}

// tick calls send with each frame that is due and returns when the next one
// will be (0: nothing waits) and whether the peer answers no more. A peer that was heard
// since it was asked is alive, whatever became of its acknowledgements: it is asked on.
func (s *sender) tick(now, heard time.Duration, send func(frame []byte)) (next time.Duration, lost bool) {
	for i := range s.queue {
		w := &s.queue[i]
		if w.due <= now {
			if w.tries == maxTries && now-heard > aliveTime {
				return 0, true
			}
			w.due = now + waitAfter(w.tries)
			w.tries = min(w.tries+1, maxTries)
			send(w.control.append(nil))
		}
		if next == 0 || w.due < next {
			next = w.due
		}
	}
	return next, false
}

// again makes what waits due at once; it counts as no try.
func (s *sender) again(now time.Duration) {
	for i := range s.queue {
		w := &s.queue[i]
		w.due, w.tries = now, max(w.tries-1, 0)
	}
}

// acknowledged drops what has arrived and reports whether the queue is empty.
func (s *sender) acknowledged(a ack) bool {
	kept := s.queue[:0]
	for _, w := range s.queue {
		ahead := w.number - a.next
		if w.number < a.next || ahead < ackWindow && a.bits>>ahead&1 != 0 {
			continue
		}
		kept = append(kept, w)
	}
	clear(s.queue[len(kept):])
	if s.queue = kept; len(kept) == 0 {
		s.queue = nil // a silent link keeps nothing
	}
	return len(s.queue) == 0
}

// A receiver is the receiving half: each number is delivered once, in the order
// of arrival. The zero value is ready.
type receiver struct {
	done uint32 // all numbers up to this one have arrived
	bits uint32 // bit i: number done+1+i has arrived
}

// take reports whether a number is new, and whether it is to be acknowledged: one
// so far ahead that it cannot be remembered is not.
func (r *receiver) take(number uint32) (fresh, acknowledge bool) {
	if number <= r.done {
		return false, number > 0
	}
	ahead := number - r.done - 1
	if ahead >= ackWindow || r.bits>>ahead&1 != 0 {
		return false, ahead < ackWindow
	}
	r.bits |= 1 << ahead
	arrived := bits.TrailingZeros32(^r.bits)
	r.done += uint32(arrived)
	r.bits >>= arrived
	return true, true
}

func (r *receiver) ack() ack { return ack{r.done + 1, r.bits} }
