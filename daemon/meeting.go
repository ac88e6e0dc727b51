package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// introduce answers a basestation that says that somebody asks for this device,
// and opens the ways to a client who may.
func (s *station) introduce(ctx context.Context, in *attach.Introduction) error {
	i, err := s.judge(ctx, in)
	if err != nil {
		no := s.link.Send(attach.KindAnswer, attach.Answer{Request: in.Request, Verdict: attach.VerdictNo})
		if no != nil {
			err = fmt.Errorf("%w (and the answer was not sent: %v)", err, no)
		}
		return err
	}
	offer, err := attach.SignOffer(s.d.key, i.hash, s.d.key.ID(), i.peer, attach.UDP, s.addresses(int(s.socket.LocalAddr().Port())))
	s.expect(s.targets(i)) // before the client can know that he may come
	if err == nil {
		err = s.link.Send(attach.KindAnswer, attach.Answer{Request: i.request, Verdict: attach.VerdictYes, Offer: offer})
	}
	if err != nil {
		s.open.close(i)
		return err
	}
	s.log.Info("introduced", "peer", i.peer.Short(), "observed", i.observed)
	s.started.Go(func() { s.punch(i) })
	if s.port != 0 {
		s.started.Go(func() { s.meetTCP(i) })
	}
	return nil
}

// judge says yes by returning an open introduction. A key that may not ask is
// refused before its signature is looked at: strangers are free to try, and
// shall neither cost a slow board its time nor use up the pace of others.
func (s *station) judge(ctx context.Context, in *attach.Introduction) (*introduction, error) {
	claimed := identity.Fingerprint(sha256.Sum256(in.Introduce.PublicKey))
	stranger := !s.d.known(claimed) && !s.d.certified.before(claimed)
	if stranger && len(s.d.asks) == 0 {
		return nil, errStranger
	}
	place := tunnel.PlaceListed
	if stranger {
		place = s.d.competes(in, claimed)
	}
	if s.open.hurried(place) {
		return nil, errTooFast
	}
	why, check, ok := s.d.mayAsk(in, claimed)
	if !ok {
		return nil, errStranger
	}
	peer, err := in.Check(s.d.key.ID())
	if err != nil {
		return nil, err
	}
	if check.admit != nil {
		if err := check.admit(s.d, in, peer); err != nil {
			return nil, err
		}
	}
	if !check.anybody {
		place = tunnel.PlaceListed // there is a better reason than that everybody may
	}
	s.log.Debug("may ask", "peer", peer.Short(), "why", why)
	return s.open.accept(ctx, in, peer, place, func() bool { return check.may != nil || s.d.known(peer) })
}

// punch opens a way for UDP. Whoever answers has proven his address, and QUIC
// asks him for no other proof.
func (s *station) punch(i *introduction) {
	for range s.puncher.Punch(i.ctx, i.hash, s.targets(i)) {
		// What is to be done about it was done by OnProven.
	}
}

// targets are where a client may be: where the basestation sees him, and what he
// signed himself, as far as that can be tried from here.
func (s *station) targets(i *introduction) []netip.AddrPort {
	var out []netip.AddrPort
	if mayBeObserved(s.link.Status().Node.Addr(), i.observed) {
		out = append(out, i.observed)
	}
	return append(out, s.usable(i.own, i.observed)...)
}

// usable are the candidates of a client that lead to him and not to some machine
// of ours that happens to have the same address.
func (s *station) usable(candidates []netip.AddrPort, theirs netip.AddrPort) []netip.AddrPort {
	now := s.link.Status()
	return usableAt(now.Node.Addr(), candidates, now.Observed, theirs, reach.Prefixes())
}

// usableAt is usable for a basestation at node, which says where it sees both sides.
// What it cannot have seen there makes nobody a neighbour: else a basestation, with
// a client of its own, could have us knock at doors in the owner's network and on
// this machine.
func usableAt(node netip.Addr, candidates []netip.AddrPort, ours, theirs netip.AddrPort, prefixes []netip.Prefix) (out []netip.AddrPort) {
	if !mayBeObserved(node, ours) || !mayBeObserved(node, theirs) {
		ours, theirs = netip.AddrPort{}, netip.AddrPort{}
	}
	for _, c := range candidates {
		if reach.Usable(c, ours, theirs, prefixes) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// expect says of what comes from a client's public addresses that it was punched,
// whatever port his router shows. Private ones are left out: a client in our own
// network may come directly as well.
func (s *station) expect(client []netip.AddrPort) {
	for _, a := range client {
		if reach.Usable(a, netip.AddrPort{}, netip.AddrPort{}, nil) {
			s.d.server.Expect(netip.AddrPortFrom(a.Addr(), 0))
		}
	}
}

// mayBeObserved says whether a basestation can have seen somebody there. It says
// so without a signature, and could aim us at machines of the owner's network: a
// private address is believed only from a basestation that is itself at one, and
// so in our network; one of this machine only from one on this machine.
func mayBeObserved(node netip.Addr, a netip.AddrPort) bool {
	node, ip := node.Unmap(), a.Addr().Unmap()
	switch {
	case !a.IsValid() || attach.IsStream(a):
		return false
	case ip.IsLoopback():
		return node.IsLoopback()
	case ip.IsPrivate():
		return node.IsPrivate() || node.IsLoopback()
	}
	// Judged as if we saw ourselves there: everything else that is no public
	// address is out.
	return reach.Usable(a, netip.AddrPort{}, netip.AddrPort{}, nil)
}

// candidatesWait is how long the client has to learn its own outside address: a
// question to the basestation, and the way of the answer through it.
const candidatesWait = 5 * time.Second

// meetTCP connects to the client at the moment in which the client connects here.
func (s *station) meetTCP(i *introduction) {
	node := s.link.Status().Node
	if !node.IsValid() {
		return
	}
	seen, release, err := s.observer.Observe(i.ctx, s.port, node)
	if err != nil {
		s.log.Debug("no TCP is punched", "peer", i.peer.Short(), "error", err)
		return
	}
	defer release() // the router keeps the port for us until then
	mine := append([]netip.AddrPort{seen}, s.addresses(s.port)...)
	offer, err := attach.SignOffer(s.d.key, i.hash, s.d.key.ID(), i.peer, attach.TCP, mine)
	if err == nil {
		err = s.link.Send(attach.KindCandidates, attach.Candidates{Request: i.request, Offer: offer})
	}
	if err != nil {
		s.log.Debug("no TCP is punched", "peer", i.peer.Short(), "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(i.ctx, candidatesWait)
	defer cancel()
	var peers []netip.AddrPort
	select {
	case peers = <-i.peers:
	case <-ctx.Done():
		return
	}
	for conn := range reach.MeetTCP(i.ctx, s.port, peers, nil) {
		s.log.Debug("TCP is punched", "peer", i.peer.Short(), "remote", conn.RemoteAddr().String())
		s.d.server.ServeIntroduced(conn, session.ViaPunched, i.peer, nil)
	}
}

// candidates takes the client's TCP addresses, once for each introduction.
func (s *station) candidates(c *attach.Candidates) error {
	i, err := s.open.find(c.Request)
	if err != nil {
		return err
	}
	if c.Offer.Transport != attach.TCP {
		return fmt.Errorf("candidates for %s", c.Offer.Transport)
	}
	if err := c.Offer.CheckClient(i.hash, s.d.key.Fingerprint(), i.publicKey); err != nil {
		return err
	}
	peers := s.usable(c.Offer.Addresses(), i.observed)
	select {
	case i.peers <- peers:
	default:
		return nil // once is enough
	}
	s.expect(peers)
	for _, p := range peers {
		s.d.server.Expect(p)
	}
	return nil
}

// relay opens our leg of a relayed connection to the node that we are attached to,
// and nowhere else, for a client to whom we have said yes.
func (s *station) relay(r attach.Relay) error {
	node, attached := s.link.Node()
	if !attached {
		return attach.ErrSilent
	}
	leg, err := s.open.leg(r.Request)
	if err != nil {
		return err
	}
	s.started.Go(func() {
		over := func() { s.open.legOver(leg) }
		conn, err := reach.RelayLeg(leg.ctx, node.Addresses, r.Ticket)
		if err != nil {
			s.complaints.say("no relayed connection", "peer", leg.peer.Short(), "error", err)
			over()
			return
		}
		if !s.open.legOpen(leg, conn) {
			_ = conn.Close()
			return
		}
		s.log.Info("relayed", "peer", leg.peer.Short(), "through", conn.RemoteAddr().String())
		s.d.server.ServeIntroduced(conn, session.ViaRelay, leg.peer, over)
	})
	return nil
}
