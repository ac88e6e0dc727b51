package attach

import (
	"math"
	"time"
)

// steps are the keep-alive intervals that a device tries. RFC 4787 REQ-5 asks
// NATs to keep a UDP mapping for two minutes of silence, so the longest stays
// below; many keep 30 s (RFC 4787 §4.3 saw them), so a device begins with 25.
var steps = [...]time.Duration{10 * time.Second, 15 * time.Second, 25 * time.Second, 40 * time.Second, 60 * time.Second, 90 * time.Second, 115 * time.Second}

const (
	startStep = 2 // 25 s
	// answerGrace is how late an answer may be: a node looks at its devices every
	// two seconds, a network delays and a packet may wait.
	answerGrace = 5 * time.Second
	// upAfter good silences at a step let a device try the next.
	upAfter = 3
	// downAfter silences in a row after which nothing came, though the node
	// answers, mean that the NAT forgets sooner: one may be a lost packet.
	downAfter = 2
	// A step that failed is tried again after an hour, then two, up to a day.
	firstRetry = time.Hour
	maxRetry   = 24 * time.Hour
)

// A keepalive learns how long the way from the node to the device stays open
// without a packet. Each PING asks for an answer after the interval: if it
// comes, a silence of that length is survived.
//
//	silence ok 3 times          -> a step up, unless that one failed lately
//	answer missing twice in a row, a PING with no delay answered -> a step down
//	network changed             -> start again
//
// The zero value is not ready; use newKeepalive.
type keepalive struct {
	step    int
	good    int
	missed  int
	ceiling int           // steps from here on failed
	retry   time.Duration // when the ceiling is forgotten
	pause   time.Duration // how long the next ceiling holds
}

func newKeepalive() keepalive {
	return keepalive{step: startStep, ceiling: len(steps), pause: firstRetry}
}

// newClientKeepalive never goes above the first step: a node forgets a client after
// a minute of silence, and a client has no battery to spare for hours.
func newClientKeepalive() keepalive {
	return keepalive{step: startStep, ceiling: startStep + 1, retry: math.MaxInt64, pause: firstRetry}
}

func (k *keepalive) interval() time.Duration { return steps[k.step] }

// survived is called when an answer came after a silence.
func (k *keepalive) survived(now, silence time.Duration) {
	if silence < k.interval()-time.Second {
		return // other traffic kept the mapping alive: this shows nothing
	}
	k.missed = 0
	if k.good++; k.good < upAfter {
		return
	}
	if k.ceiling < len(steps) && now >= k.retry {
		k.ceiling = len(steps)
	}
	if k.step+1 < k.ceiling {
		k.step, k.good = k.step+1, 0
	}
}

// closed is called when an answer did not come although the node is there.
func (k *keepalive) closed(now time.Duration) {
	k.good = 0
	if k.missed++; k.missed < downAfter {
		return
	}
	k.missed = 0
	k.ceiling, k.retry = max(k.step, 1), max(k.retry, now+k.pause)
	k.pause = min(2*k.pause, maxRetry)
	k.step = max(k.step-1, 0)
}
