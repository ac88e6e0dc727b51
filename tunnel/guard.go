package tunnel

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/keyholed/keyhole/tunnel/tries"
)

// guard watches the passwords that go by in one tunnel to a service that
// authenticates by itself. It changes no byte. A request with a password goes on
// when the ledger has a try for it; what its answer says of it is noted before the
// answer goes on.
//
// What cannot be followed ends the tunnel: whoever could hide a password from
// the guard could try as many as he likes. Where two programs might read the same
// bytes differently, they do not go on.
type guard struct {
	asker    *tries.Asker
	refusals []int // status codes that mean a failed try

	mu       sync.Mutex
	open     []exchange    // requests without their final answer, oldest first
	answered chan struct{} // closed and replaced with each answer
	gone     chan struct{} // closed when nobody needs to wait any more
	over     bool          // that has happened
}

// exchange is a request that was passed on.
type exchange struct {
	try      *tries.Try // nil: it carried no password
	plain    uint64     // stands for method and target
	schemed  uint64     // … and for the kind of password
	digest   bool       // the password is proven with a number of the service's
	bodyless bool       // HEAD: its answer has no body
	setup    bool       // RTSP SETUP
	upgrade  upgrade
	cseq     string // of RTSP
}

// maxOpen requests may be without an answer; the next one waits. Browsers send one
// after the other, programs that pipeline a few.
const maxOpen = 64

func newGuard(asker *tries.Asker, refusals []int) *guard {
	return &guard{asker: asker, refusals: refusals, answered: make(chan struct{}), gone: make(chan struct{})}
}

// seed makes the numbers below this process's own: nobody can look for two requests
// of one number.
var seed = maphash.MakeSeed()

// marked returns an exchange with what tells requests and passwords apart, and a
// number for the password, 0 where each request proves it anew.
func marked(method, target, password []byte) (x exchange, credential uint64) {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(method)
	_ = h.WriteByte(' ')
	_, _ = h.Write(target)
	x.plain = h.Sum64()
	if password == nil {
		return x, 0
	}
	scheme, _, _ := bytes.Cut(password, []byte(" "))
	scheme = bytes.ToLower(scheme)
	_ = h.WriteByte(' ')
	_, _ = h.Write(scheme)
	x.schemed = h.Sum64()
	x.digest = string(scheme) == "digest"
	if s := string(scheme); s == "basic" || s == "bearer" {
		credential = maphash.Bytes(seed, password)
	}
	return x, credential
}

// ask takes a try for a request with a password and notes the request. It blocks
// until the request may go on, and is false when the tunnel has ended before. What
// came before must have been passed on: its answer may be what is waited for.
func (g *guard) ask(x exchange, hasPassword bool, credential uint64) bool {
	if !g.waitRoom() {
		return false
	}
	if hasPassword {
		t, ok := g.asker.Begin(g.gone, credential)
		if !ok {
			return false
		}
		x.try = t
	}
	g.mu.Lock()
	over := g.over
	if !over {
		g.open = append(g.open, x)
	}
	g.mu.Unlock()
	if over && x.try != nil {
		x.try.End(tries.Neutral) // it never went on
	}
	return !over
}

// shed drops the oldest request when there is no room for one more: an RTSP server
// may leave some without an answer.
func (g *guard) shed() {
	g.mu.Lock()
	var dropped []exchange
	if len(g.open) >= maxOpen {
		dropped = slices.Clone(g.open[:1])
		g.open = slices.Delete(g.open, 0, 1)
	}
	g.mu.Unlock()
	end(dropped, tries.Refused)
}

func (g *guard) waitRoom() bool {
	return g.waitFor(func() bool { return len(g.open) < maxOpen })
}

// settled waits until every request has its answer.
func (g *guard) settled() bool {
	return g.waitFor(func() bool { return len(g.open) == 0 })
}

// waitFor waits until cond, which is called with mu held, is true. It is false when
// the tunnel has ended before.
func (g *guard) waitFor(cond func() bool) bool {
	for {
		g.mu.Lock()
		ok, over, answered := cond(), g.over, g.answered
		g.mu.Unlock()
		if over || ok {
			return !over
		}
		select {
		case <-answered:
		case <-g.gone:
		}
	}
}

// take removes the oldest open request that pick accepts, with those before it,
// which are without an answer for good. It is false when there is none.
func (g *guard) take(pick func(exchange) bool) (exchange, bool) {
	g.mu.Lock()
	at := slices.IndexFunc(g.open, pick)
	if at < 0 {
		g.mu.Unlock()
		return exchange{}, false
	}
	x, skipped := g.open[at], slices.Clone(g.open[:at])
	g.open = slices.Delete(g.open, 0, at+1)
	close(g.answered)
	g.answered = make(chan struct{})
	g.mu.Unlock()
	end(skipped, tries.Refused)
	return x, true
}

func end(all []exchange, a tries.Answer) {
	for _, x := range all {
		if x.try != nil {
			x.try.End(a)
		}
	}
}

// judge says what the final answer to a request means.
func (g *guard) judge(x exchange, status int, stale bool) {
	refused := slices.Contains(g.refusals, status)
	if x.try == nil {
		if refused {
			g.asker.Challenged(x.plain)
		}
		return
	}
	switch {
	case refused && stale && x.digest:
		// The service asks for the same proof with a newer number of its own. It says
		// so of right passwords, or without having looked: nothing was learnt.
		x.try.End(tries.Neutral)
	case refused:
		g.asker.Challenged(x.schemed)
		x.try.End(tries.Refused)
	case (status/100 == 2 || status == 304) && (g.asker.IsChallenged(x.plain) || g.asker.IsChallenged(x.schemed)):
		// Only where somebody else was refused: anybody is let in everywhere else.
		x.try.End(tries.Succeeded)
	default:
		x.try.End(tries.Neutral)
	}
}

// fault counts a failed try that cannot be told from others: the service answered
// what was not asked.
func (g *guard) fault() { g.asker.Fail() }

// wake ends all waiting: the tunnel, or its service, is no more.
func (g *guard) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.over = true
		close(g.gone)
	}
}

// serviceEnded is called when the service's direction has ended. A service that
// hangs up instead of an answer has refused.
func (g *guard) serviceEnded(o outcome) {
	g.wake()
	if o.fatal || o.first && !o.writing {
		g.finish(tries.Refused)
	}
}

// finish ends what is still open.
func (g *guard) finish(a tries.Answer) {
	g.wake()
	g.mu.Lock()
	open := g.open
	g.open = nil
	g.mu.Unlock()
	end(open, a)
}
