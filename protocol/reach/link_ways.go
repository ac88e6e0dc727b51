package reach

import "time"

// A way is how packets go to the basestation.
type way int

const (
	overUDP way = iota
	overTCP
)

func (w way) String() string {
	if w == overTCP {
		return "tcp"
	}
	return "udp"
}

const (
	// udpPatience is how long UDP may be silent before TCP is tried beside it:
	// four packets, of which one gets through where a third is lost.
	udpPatience = 1500 * time.Millisecond
	// lookEvery is how often a link over TCP looks whether UDP works by now, with
	// lookTries packets, lookApart from each other; in each network the first
	// look is sooner, for the case that UDP was just unlucky.
	lookEvery = 10 * time.Minute
	firstLook = 30 * time.Second
	lookTries = 3
	lookApart = 500 * time.Millisecond
	// rememberedNetworks bounds how many networks are known to block UDP.
	rememberedNetworks = 32
)

// ways chooses how packets go. Packets before there are keys may go both ways; of
// others the node takes the first copy and answers it the way it came, which may
// be the one that is open in one direction only. So they go one way, and the
// other after udpPatience without an answer.
type ways struct {
	way     way
	network string
	blocked map[string]time.Duration // networks that block UDP, and since when we know
	turned  time.Duration            // when way last became another because of silence
	fell    bool                     // UDP was given up once in this network
	lookAt  time.Duration            // when to look for UDP again; of a link over TCP
	looks   int                      // packets sent in this round
}

func newWays(network string) ways {
	return ways{network: network, blocked: map[string]time.Duration{}}
}

func (w *ways) knownBlocked() bool { _, ok := w.blocked[w.network]; return ok }

// late reports whether UDP has had its time.
func (w *ways) late(now, since time.Duration, waiting bool) bool {
	return w.knownBlocked() || waiting && now-since >= udpPatience
}

// choose says by which ways a packet goes.
func (w *ways) choose(now, since time.Duration, waiting, opens bool) (udp, tcp bool) {
	if opens && w.late(now, since, waiting) {
		return true, true
	}
	return w.way == overUDP, w.way == overTCP
}

// A move is what the holder of ways is to do.
type move int

const (
	stay   move = iota
	open        // a stream to the node, and turn when it is there
	turned      // send again what waits: it goes another way now
)

// tick decides about a link that has keys, and waits for an answer since some time.
// up tells that there is a stream to the node. It returns when to call it again.
func (w *ways) tick(now, since time.Duration, up bool) (time.Duration, move) {
	turn := max(since, w.turned) + udpPatience
	if w.way == overUDP && w.knownBlocked() {
		turn = since
	}
	switch {
	case now < turn:
		return turn, stay
	case w.way == overUDP && !up:
		return now + udpPatience, open
	}
	w.turned = now
	if w.way = 1 - w.way; w.way == overTCP {
		w.fall(now)
	}
	return now + udpPatience, turned
}

// arrive takes the way by which a packet came, and whether UDP was late until then: answers
// go back by it. It returns the way before, to be set again if the packet was
// none. What still comes in TCP after UDP has answered changes nothing.
func (w *ways) arrive(by way, late bool) (before way) {
	before = w.way
	if by == overUDP || late {
		w.way = by
	}
	return before
}

// answered is called after arrive when the packet was genuine.
func (w *ways) answered(now time.Duration, by way, late bool) {
	switch {
	case by == overUDP:
		delete(w.blocked, w.network)
	case late:
		w.remember(now)
	}
}

func (w *ways) remember(now time.Duration) {
	if w.knownBlocked() {
		return
	}
	if len(w.blocked) >= rememberedNetworks {
		oldest, at := "", now
		for name, since := range w.blocked {
			if since <= at {
				oldest, at = name, since
			}
		}
		delete(w.blocked, oldest)
	}
	w.blocked[w.network] = now
}

// fall is called when a link goes over TCP from now on.
func (w *ways) fall(now time.Duration) {
	wait := lookEvery
	if !w.fell {
		w.fell, wait = true, firstLook
	}
	w.lookLater(now, wait)
}

func (w *ways) lookLater(now, wait time.Duration) { w.lookAt, w.looks = now+wait, 0 }

// look reports, of a link over TCP, whether to ask over UDP now, and when next.
func (w *ways) look(now time.Duration) bool {
	if now < w.lookAt {
		return false
	}
	if w.looks++; w.looks == lookTries {
		w.lookLater(now, lookEvery)
	} else {
		w.lookAt = now + lookApart
	}
	return true
}

// moved is called when the machine is in another network, perhaps.
func (w *ways) moved(now time.Duration, network string) {
	w.turned = now
	if network != w.network {
		w.network, w.way, w.fell = network, overUDP, false
		if w.knownBlocked() {
			w.way = overTCP
		}
	}
	w.lookLater(now, 0)
}
