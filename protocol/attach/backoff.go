package attach

import "time"

// Bounds of the wait between attempts to reach a basestation.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// A backoff is exponential with full jitter: the wait is anywhere between
// nothing and a ceiling that doubles from 1 s to 60 s, so that the devices of a
// node that died do not come back together. The zero value is ready.
type backoff struct{ failures int }

// fail returns the wait after another failure; random returns a number in [0, 1).
func (b *backoff) fail(random func() float64) time.Duration {
	ceiling := maxBackoff
	if b.failures < 6 {
		ceiling = min(minBackoff<<b.failures, maxBackoff)
	}
	b.failures++
	return time.Duration(random() * float64(ceiling))
}

func (b *backoff) reset() { b.failures = 0 }
