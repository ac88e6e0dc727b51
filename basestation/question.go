package basestation

import (
	"context"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Figures of an introduction, at the node of the client.
const (
	// noAfter is when every no leaves, counted from INTRODUCE: unknown, offline,
	// refused and not allowed are the same to who asks. A device on the other side of
	// the world has answered by then.
	noAfter = time.Second
	// lateYes is how long a yes is still passed on: a device whose first packet got
	// lost, or which is waking up.
	lateYes = 10 * time.Second
	// rememberedFor is how long candidates and tickets are passed on after a yes.
	rememberedFor = 60 * time.Second
	// maxCandidates is how many CANDIDATES are passed on in each direction.
	maxCandidates = 8
	// maxEarly of them wait for the yes: 150 MB of all that may be under way. A client
	// has its outside address of each family to tell by then.
	maxEarly = 2
	// maxTickets of one introduction: a pool of warm connections, twice.
	maxTickets = 32
)

// A question is an introduction as the node of the client sees it.
//
//	INTRODUCE -> open --- yes ----------------> introduced -- 60 s --> forgotten
//	              '---- 1 s: no --> refused -- yes within 10 s --^
//	                                   '---- 10 s ---------------> forgotten
type question struct {
	client  uint64 // index
	device  identity.ID
	came    time.Duration
	until   time.Duration // then it is forgotten
	state   questionState
	no      attach.NotIntroduced // what is said if it comes to a no
	holder  end                  // of the request, once it is known
	asked   bool                 // within the limits: there may be a yes
	early   []attach.Offer       // of the client, before the device said yes
	offers  int
	tickets int
}

type questionState uint8

const (
	questionOpen questionState = iota
	questionRefused
	questionIntroduced
)

// An end is where one side of an introduction is handled: which node, "" for this
// one, and its number there: of the request, or the index of the client.
type end struct {
	Node   string `json:"-"` // the fleet says who sent a message
	Number uint64
}

// introduce begins an introduction, whose signature is good.
func (h *hub) introduce(now time.Duration, from attach.Peer, i *attach.Introduce) {
	h.metrics.asked.Inc()
	if len(h.questions) >= h.limits.Questions {
		h.metrics.flooded.Inc()
		_ = h.node.Close(now, from.Index, attach.CloseLeaving) // known: it has just asked
		return
	}
	q := &question{
		client: from.Index, device: i.Device, came: now, until: now + lateYes,
		no: attach.NotIntroduced{Verdict: attach.VerdictNo},
	}
	h.questions[from.Index] = q
	h.nos.push(now+noAfter, from.Index)
	if h.draining || !h.sources.Allow(now, pace.Source(h.addressOf(from.Address))) {
		h.metrics.limited.Inc()
		return
	}
	if h.gate != nil && h.gate.Refuses(from.Fingerprint, i.Device, h.addressOf(from.Address)) != "" {
		h.metrics.keptOut.Inc() // and the no leaves in its time, like every other
		return
	}
	q.asked = true
	o := order{
		From: end{Number: from.Index}, Device: i.Device, Client: from.Fingerprint, Hash: from.Hash,
		Introduce: *i, Observed: from.Address, Source: h.addressOf(from.Address),
	}
	if h.place(now, o) {
		return
	}
	pass, device, client := i.Presence, i.Device, from.Fingerprint
	started := h.start(func(ctx context.Context) { h.search(ctx, o, pass, device, client) })
	if !started {
		h.metrics.limited.Inc()
	}
}

// addressOf is the IP address of a peer, also of one in a stream.
func (h *hub) addressOf(a netip.AddrPort) netip.Addr {
	if attach.IsStream(a) {
		return h.remote(a)
	}
	return a.Addr()
}

// search looks for a device that is not here. It is a task.
func (h *hub) search(ctx context.Context, o order, pass []byte, device identity.ID, client identity.Fingerprint) {
	ctx, cancel := context.WithTimeout(ctx, lateYes) // later nobody would hear of it
	defer cancel()
	nodes, p, err := h.find(ctx, device)
	if err != nil {
		h.chatter.Warn("a device was not looked for", "device", device, "err", err)
		return // the no leaves in its time
	}
	no, mayKnow := offline(pass, device, client, p)
	h.post(func(now time.Duration) {
		q := h.questions[o.From.Number]
		if q == nil || q.came+lateYes < now {
			return
		}
		if mayKnow {
			q.no = no
		}
		h.sendOn(o, nodes)
	})
}

// sendOn asks other nodes for a device, once each: whoever has it asks it, the others
// are silent.
func (h *hub) sendOn(o order, nodes []string) {
	for _, n := range nodes {
		h.metrics.forwarded.Inc()
		h.send(n, &nodeMessage{Order: &o})
	}
}

// offline is what the bearer of a presence pass may know. Without a good pass,
// or with one from before the device last took somebody's permission, it is the
// same no as any other.
func offline(pass []byte, device identity.ID, client identity.Fingerprint, p registry.Presence) (attach.NotIntroduced, bool) {
	if len(pass) == 0 || p.State != registry.Gone || !p.Told {
		return attach.NotIntroduced{}, false
	}
	epoch, err := attach.CheckPresencePass(pass, device, client)
	if err != nil || epoch < p.Epoch {
		return attach.NotIntroduced{}, false
	}
	return attach.NotIntroduced{Verdict: attach.VerdictOffline, Since: p.Since, Reason: p.Reason}, true
}

// sayNo sends the noes whose time has come.
func (h *hub) sayNo(now time.Duration) {
	for {
		index, ok := h.nos.pop(now)
		if !ok {
			return
		}
		q := h.questions[index]
		if h.sayNobody(now, index) || q == nil || q.state != questionOpen {
			continue
		}
		q.state = questionRefused
		h.metrics.refused.Inc()
		_ = h.tell(now, index, attach.KindNotIntroduced, q.no) // a client that left needs no answer
	}
}

// introduced passes a yes on to the client.
func (h *hub) introduced(now time.Duration, index uint64, holder end, i attach.Introduced) {
	q := h.questions[index]
	if q == nil || q.state == questionIntroduced || now > q.came+lateYes {
		return
	}
	if err := h.tell(now, index, attach.KindIntroduced, i); err != nil {
		return
	}
	h.metrics.introduced.Inc()
	h.metrics.introductionTime.Update((now - q.came).Seconds())
	q.state, q.holder, q.until = questionIntroduced, holder, now+rememberedFor
	for _, o := range q.early {
		h.passToDevice(now, q, o)
	}
	q.early = nil
}

// clientOffers takes further addresses of a client. Before the device said yes they
// wait.
func (h *hub) clientOffers(now time.Duration, from attach.Peer, o attach.Offer) {
	q := h.questions[from.Index]
	if q == nil || q.offers >= maxCandidates {
		return
	}
	if q.state != questionIntroduced {
		if q.asked && len(q.early) < maxEarly {
			q.offers++
			q.early = append(q.early, o)
		}
		return
	}
	q.offers++
	h.passToDevice(now, q, o)
}

func (h *hub) passToDevice(now time.Duration, q *question, o attach.Offer) {
	if q.holder.Node == "" {
		h.toDevice(now, q.holder.Number, o)
		return
	}
	h.send(q.holder.Node, &nodeMessage{ToDevice: &passed{q.holder.Number, o}})
}

// toClient passes further addresses of the device on.
func (h *hub) toClient(now time.Duration, index uint64, o attach.Offer) {
	if q := h.questions[index]; q != nil && q.state == questionIntroduced {
		_ = h.tell(now, index, attach.KindCandidates, attach.Candidates{Offer: o}) // lost like a packet
	}
}

func (h *hub) clientWantsTicket(now time.Duration, from attach.Peer) {
	q := h.questions[from.Index]
	if q == nil || q.state != questionIntroduced || q.tickets >= maxTickets {
		h.granted(now, from.Index, attach.Ticket{})
		return
	}
	q.tickets++
	if q.holder.Node == "" {
		h.granted(now, from.Index, h.ticket(now, q.holder.Number))
		return
	}
	h.send(q.holder.Node, &nodeMessage{Ticket: &wanted{q.holder.Number, from.Index}})
}

func (h *hub) granted(now time.Duration, index uint64, t attach.Ticket) {
	_ = h.tell(now, index, attach.KindTicketGranted, attach.TicketGranted{Ticket: t}) // the client asks again
}
