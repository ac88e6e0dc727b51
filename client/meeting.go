package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// A meeting is one introduction by a basestation and what came of it: the UDP
// socket on which everything happens, the link to a node, and the answers. It lives
// as long as the sessions that need its socket or its tickets.
//
//	ask ─ INTRODUCE ─> node ─> device: may he?
//	INTRODUCED: punch UDP ─┐
//	            meet TCP  ─┼─> the first session in which the device proves its key
//	            relay     ─┘
type meeting struct {
	id     identity.ID          // of the device that is asked for
	device identity.Fingerprint // its key; zero until its first offer where only the id is known
	key    *identity.Key
	roots  []attach.Root
	log    *slog.Logger
	began  time.Time

	recalled recalled // of the last introduction with this device
	outcome  outcome  // of this one, when all ways have ended

	socket  *session.Socket
	puncher *reach.Puncher
	link    *reach.Link
	second  atomic.Pointer[reach.Link] // of a diagnosis, beside link
	stop    context.CancelFunc
	running sync.WaitGroup

	answers    chan answer        // holds the first answer
	candidates chan attach.Offer  // TCP addresses of the device
	granted    chan attach.Ticket // further tickets
	tickets    sync.Mutex         // held while one is asked for
	relayed    atomic.Bool        // further tickets may be wanted
	punched    atomic.Bool        // a direct session came of it
	holders    atomic.Int32       // who needs it: the race, and each session that stands on it
}

// An answer is what the node said to an introduction.
type answer struct {
	yes attach.Introduced
	no  *NotIntroducedError
}

// A NotIntroducedError is the basestation's no. A device that is unknown there, that
// is away, and one that does not want this client are told apart only for the
// bearer of a presence pass.
type NotIntroducedError struct {
	Offline bool      // else it is not said
	Since   time.Time // last heard of; zero: not known
}

func (e *NotIntroducedError) Error() string {
	switch {
	case !e.Offline:
		return "the basestation does not introduce us: the device is away, or does not know this client"
	case e.Since.IsZero():
		return "the basestation has not heard of the device for a while"
	}
	return "offline since " + e.Since.Local().Format("2006-01-02 15:04:05")
}

const (
	// mostCandidates bounds what is kept of a device that goes on naming addresses.
	mostCandidates = 4
	// mostTickets that wait to be used; a pool of connections asks for one at a time.
	mostTickets = 1
)

// ErrBasestation means that a basestation did not do its part: no answer, or an answer
// that is not the device's.
var ErrBasestation = errors.New("the basestation's answer is not the device's")

// meet asks for an introduction. The caller closes the meeting.
func (h *Home) meet(ctx context.Context, c call, o DialOptions) (*meeting, error) {
	bases, err := c.device.Basestation.resolve(ctx)
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	m := &meeting{
		id: c.device.ID, device: c.device.Fingerprint, key: h.key, roots: c.device.Basestation.roots(), log: o.log(), began: time.Now(),
		socket: session.NewSocket(udp), answers: make(chan answer, 1),
		candidates: make(chan attach.Offer, mostCandidates), granted: make(chan attach.Ticket, mostTickets),
	}
	m.recalled = h.recall(m.device)
	m.puncher = reach.NewPuncher(m.socket, m.log)
	introduce := &attach.Introduce{
		Device:     c.device.ID,
		Candidates: attach.EncodeAddresses(own(m.socket.LocalAddr().Port())),
		Presence:   c.device.Basestation.Presence,
		Pass:       c.pass,
		Prove:      c.prove,
	}
	if m.link, err = h.newLink(m, c.device, bases, introduce); err != nil {
		return nil, errors.Join(err, m.socket.Close())
	}
	m.socket.OnPacket(func(from netip.AddrPort, p []byte) {
		if m.puncher.Deliver(from, p) {
			return
		}
		m.link.Deliver(from, p) // either knows its own packets
		if second := m.second.Load(); second != nil {
			second.Deliver(from, p)
		}
	})
	m.holders.Store(1)
	life, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.running.Go(func() {
		if err := m.link.Run(life); err != nil {
			m.log.Debug("link to the basestation ended", "error", err)
		}
	})
	return m, nil
}

// A punchSocket is for punching alone.
type punchSocket struct {
	socket  *session.Socket
	puncher *reach.Puncher
}

func newPunchSocket(log *slog.Logger) (*punchSocket, error) {
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	p := &punchSocket{socket: session.NewSocket(udp)}
	p.puncher = reach.NewPuncher(p.socket, log)
	p.socket.OnPacket(func(from netip.AddrPort, b []byte) { p.puncher.Deliver(from, b) })
	return p, nil
}

func (p *punchSocket) close() { _ = p.socket.Close() }

// own are the addresses of this machine for a port, as a peer in the same network could
// use them.
func own(port uint16) (list []netip.AddrPort) {
	for _, a := range reach.Candidates() {
		list = append(list, netip.AddrPortFrom(a, port))
	}
	return list
}

// hold keeps the meeting for one more session that stands on it.
func (m *meeting) hold() { m.holders.Add(1) }

// release ends the meeting when nobody needs it any more.
func (m *meeting) release() {
	if m.holders.Add(-1) != 0 {
		return
	}
	m.stop()
	m.running.Wait()
	if err := m.socket.Close(); err != nil {
		m.log.Debug("socket of an introduction", "error", err)
	}
}

// rest ends the link when nothing is wanted of the node any more: a session that was
// punched needs the socket alone.
func (m *meeting) rest() {
	if !m.relayed.Load() {
		m.stop()
	}
}

// silence says why there was no answer.
func (m *meeting) silence() error {
	s := m.link.Status()
	if s.State == attach.StateAttached {
		return errUnanswered
	}
	if s.Err != nil {
		return s.Err
	}
	return errSilentBase
}

// What a basestation may be short of.
var (
	errUnanswered = errors.New("the basestation knows our question, and does not answer it")
	errSilentBase = errors.New("the basestation does not answer")
)

// message takes what a node says, in the link's goroutine.
func (m *meeting) message(k attach.Kind, body []byte) {
	switch k {
	case attach.KindIntroduced:
		var yes attach.Introduced
		if attach.Decode(body, &yes) == nil {
			m.answer(answer{yes: yes})
		}
	case attach.KindNotIntroduced:
		var no attach.NotIntroduced
		if attach.Decode(body, &no) == nil {
			m.answer(answer{no: notIntroduced(no)})
		}
	case attach.KindCandidates:
		var c attach.Candidates
		if attach.Decode(body, &c) == nil {
			offer(m.candidates, c.Offer)
		}
	case attach.KindTicketGranted:
		var t attach.TicketGranted
		if attach.Decode(body, &t) == nil {
			offer(m.granted, t.Ticket)
		}
	}
}

// answer keeps the latest: a yes may come after a no (the device was slow).
func (m *meeting) answer(a answer) {
	select {
	case <-m.answers:
	default:
	}
	offer(m.answers, a)
}

// offer drops what nobody has room for.
func offer[T any](to chan T, v T) {
	select {
	case to <- v:
	default:
	}
}

// longAgo bounds the times that a node can make us print.
const longAgo = 100 * 365 * 24 * time.Hour

func notIntroduced(no attach.NotIntroduced) *NotIntroducedError {
	e := &NotIntroducedError{Offline: no.Verdict == attach.VerdictOffline}
	if e.Offline && no.Since > 0 && no.Since < uint64(longAgo/time.Second) {
		e.Since = time.Unix(int64(no.Since), 0)
	}
	return e
}
