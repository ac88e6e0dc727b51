package basestation

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// sweepEvery is how often the hub looks for what is over.
const sweepEvery = time.Second

// A hub is one node of a basestation without its sockets, goroutines and clock:
// it is handed packets and the time, and calls the functions of its surroundings.
// It may be used by one goroutine only.
type hub struct {
	around
	node *attach.Node
	out  func(to netip.AddrPort, packet []byte)
	log  *slog.Logger
	// chatter is log, for lines that strangers can cause.
	chatter *slog.Logger

	sources *pace.Table[netip.Prefix]         // introductions, by who asks
	asked   *pace.Table[identity.ID]          // introductions, by who is asked for
	known   *pace.Table[acquaintance]         // introductions beside those, by who shows a pass of whom
	told    *pace.Table[identity.Fingerprint] // events

	calls calls

	questions map[uint64]*question   // by the client's index
	nos       deadlines              // when their no leaves
	requests  map[uint64]*request    // by number
	number    uint64                 // of the last request
	enrolling map[uint64]particulars // what ATTACH said, by index, until it is answered
	roster    roster
	sweep     sweep                            // of the roster
	elsewhere map[identity.Fingerprint]absence // devices that attached to another node as well
	news      []identity.Fingerprint           // who attached here since the last turn
	recall    recall                           // of the devices of an earlier run
	sweptAt   time.Duration
	draining  bool
}

// around is what a hub needs of its surroundings.
type around struct {
	limits Limits
	self   string // id of this node
	// certificate of this node, for clients of another one.
	certificate []byte

	// start has a task run elsewhere, with a context that ends with the server;
	// false when too much is under way. post hands its result back: f is called
	// where the hub is. It waits until it is taken.
	start func(task func(ctx context.Context)) bool
	post  func(f func(now time.Duration))

	// remote is who stands behind the address of a stream.
	remote func(stream netip.AddrPort) netip.Addr
	// enrol decides without waiting where it can (decided); otherwise it is
	// called again in a task, with wait.
	enrol func(ctx context.Context, r *attach.Request, wait bool) (code attach.Code, decided bool)
	// gate keeps out whom the operator names; nil: nobody.
	gate Gate
	// authorize asks the vendor; nil: nobody is asked.
	authorize func(context.Context, push.Question) (push.Verdict, error)
	// pair makes the tickets of one relayed connection; nil: nothing is relayed.
	pair func(who relay.Who, first func()) (forClient, forDevice attach.Ticket, err error)
	// vendor says on whose account a device relays, "" for nobody's; nil: it does not
	// matter. It waits for the store.
	vendor func(context.Context, identity.ID) (string, error)
	// find says which other nodes may have a device, the likeliest first, and what
	// is known of it.
	find func(context.Context, identity.ID) (nodes []string, p registry.Presence, err error)
	// send hands a message to another node, tellAll to all of them; it may get lost.
	send    func(node string, m *nodeMessage)
	tellAll func(m *nodeMessage)
	// mine reports whether this node is the one of a prefix, others how many nodes live
	// beside it.
	mine   func(prefix uint16) bool
	others func() int
	// presence is written, never read, by the hub itself.
	presence presenceWriter
	// book keeps call numbers.
	book callBook
	// events takes what devices say.
	events Events
	// seen is told where devices are, for notices after a restart; it never waits.
	seen    func(slot uint32, index uint64, at netip.AddrPort)
	metrics *metrics
}

// A presenceWriter is the registry as the hub uses it; no call waits.
type presenceWriter interface {
	Attached(registry.Presence)
	Told(f identity.Fingerprint, epoch uint64)
	Moved(f identity.Fingerprint, to netip.AddrPort)
	Gone(f identity.Fingerprint, reason attach.CloseReason)
}

// Events is where what happens is told; *push.Pusher is one. Push returns when
// the event is kept; Tell does not wait.
type Events interface {
	Push(context.Context, push.Event) error
	Tell(push.Event)
}

// particulars are what a device says of itself, kept until it is attached.
type particulars struct {
	firmware, serial string
	boots            uint32
	until            time.Duration
}

// newHub makes the hub of a node; c needs keys, certificate, cookies, Locate, Send and
// Unix.
func newHub(c attach.NodeConfig, a around, log *slog.Logger) (*hub, error) {
	h := &hub{
		around: a, log: log, chatter: newChatter(log), out: c.Send,
		sources: paced[netip.Prefix](a.limits.Introductions, introductionBurst),
		asked:   paced[identity.ID](perDeviceIntroductions, introductionBurst),
		known:   paced[acquaintance](perKnownIntroductions, introductionBurst),
		told:    paced[identity.Fingerprint](perDeviceEvents, introductionBurst),

		calls: newCalls(),

		questions: map[uint64]*question{}, requests: map[uint64]*request{}, enrolling: map[uint64]particulars{},
		elsewhere: map[identity.Fingerprint]absence{},
	}
	// Numbers begin anywhere, so that a device that remembers one of an earlier run
	// does not take it for a new one.
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	h.number = binary.BigEndian.Uint64(b[:]) >> 1
	c.MaxPeers = a.limits.Devices
	c.MaxPendingPerSource, c.GreetingsPerSecond = a.limits.PendingPerSource, a.limits.Handshakes
	c.MaxClientsPerSource = a.limits.ClientsPerSource
	c.Ask, c.Event, c.Introduce, c.Message = h.ask, h.event, h.introduce, h.message
	var err error
	h.node, err = attach.NewNode(c)
	return h, err
}

// Tick does what is due. Call it every attach.TickEvery, and at Next.
func (h *hub) Tick(now time.Duration) {
	h.node.Tick(now)
	h.sayNo(now)
	h.relocate(now)
	h.tellNews()
	h.callBack(now)
	if now < h.sweptAt+sweepEvery {
		return
	}
	h.sweptAt = now
	h.watchTwins(now)
	h.sweepCalls(now)
	for index, q := range h.questions {
		if now >= q.until {
			delete(h.questions, index)
		}
	}
	for number, r := range h.requests {
		if now >= r.until {
			delete(h.requests, number)
		}
	}
	for index, p := range h.enrolling {
		if now >= p.until {
			delete(h.enrolling, index)
		}
	}
}

// Next is when a no has to leave, if one has.
func (h *hub) Next() (time.Duration, bool) { return h.nos.next() }

// message is called with control messages that the attach node does not know.
func (h *hub) message(now time.Duration, from attach.Peer, k attach.Kind, body []byte) {
	switch {
	case from.Client && k == attach.KindCandidates:
		receive(body, func(m attach.Candidates) { h.clientOffers(now, from, m.Offer) })
	case from.Client && k == attach.KindFind:
		receive(body, func(m attach.Find) { h.clientFinds(now, from, m) })
	case from.Client && k == attach.KindTicket:
		h.clientWantsTicket(now, from)
	case from.Client:
	case k == attach.KindAnswer:
		receive(body, func(m attach.Answer) { h.answer(now, from, m) })
	case k == attach.KindCandidates:
		receive(body, func(m attach.Candidates) { h.deviceOffers(now, from, m) })
	case k == attach.KindEvent:
		receive(body, func(m attach.Event) { h.deviceEvent(now, from, m) })
	case k == attach.KindCall:
		receive(body, func(m attach.Call) { h.call(now, from, m) })
	case k == attach.KindPresence:
		receive(body, func(m attach.Presence) { h.presence.Told(from.Fingerprint, m.Epoch) })
	}
}

// receive reads a body and hands it on; one that is malformed is ignored.
func receive[T any](body []byte, take func(T)) {
	var m T
	if attach.Decode(body, &m) == nil {
		take(m)
	}
}

// tell sends a control message. One that does not fit or finds no room is lost,
// as on a bad network: whoever waits for it hears no, or asks again.
func (h *hub) tell(now time.Duration, index uint64, k attach.Kind, m any) error {
	body, err := attach.Encode(m)
	if err == nil {
		err = h.node.Send(now, index, k, body)
	}
	return err
}
