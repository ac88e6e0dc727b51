package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// A station is the device's end of its basestation: the link by which it can be
// asked for from beyond the local network, what it keeps on disk for that, and
// the introductions that come by it. Nil is a device that has none.
//
// The basestation is believed in what it alone can know (who asks, where it sees
// whom, the time) and in nothing that would let anybody in: that is for TLS and
// the access list, as on the LAN.
type station struct {
	d       *Daemon
	log     *slog.Logger
	config  config.Basestation
	file    *stationFile
	socket  *session.Socket
	link    *reach.Link
	puncher *reach.Puncher
	open    *introductions
	alarms  *alarms
	clock   toldClock
	passes  passes

	complaints *complaints
	told       *told
	duplicate  atomic.Bool // another device with our key is attached, and the log has it

	inbox   chan message   // from the link to handle; when it is full, messages are lost
	started sync.WaitGroup // goroutines of introductions
	port    int            // of the first TCP listener, 0 without one

	observer reach.Observer
}

// A message came from the basestation.
type message struct {
	kind attach.Kind
	body []byte
}

// inboxMost is how many messages wait to be looked at: a node has at most 8 under
// way, and each takes us a signature at most.
const inboxMost = 64

// openStation makes the end of the link that the configuration asks for.
func (d *Daemon) openStation(socket *session.Socket) error {
	cfg := d.config()
	s := &station{
		d: d, log: d.log.With("room", "basestation"), config: cfg.Basestation, socket: socket,
		inbox: make(chan message, inboxMost), port: d.portBeside(socket),
	}
	s.file = d.memory
	roots, err := s.file.roots(s.config.Keys)
	if err != nil {
		return err
	}
	factory, err := readFactory(s.config)
	if err != nil {
		return err
	}
	kept := s.begin()
	s.complaints = newComplaints(s.log)
	s.told = &told{log: s.log}
	s.open = newIntroductions(time.Now)
	s.puncher = reach.NewPuncher(socket, s.log)
	s.puncher.OnProven(socket.Proven)
	s.alarms = newAlarms(s)
	s.link, err = reach.NewLink(reach.LinkConfig{
		Key: d.key, Roots: roots, Addresses: goodFirst(s.config.Addresses, kept.Good), Factory: factory,
		Firmware: firmware(), Boots: kept.Boots, Known: attach.Known{Certificate: kept.Certificate, Cookie: kept.Cookie},
		Packets: socket, Event: s.linkChanged, Message: s.received, Network: networkName, Log: s.log,
	})
	if err != nil {
		return err
	}
	socket.OnPacket(s.packet)
	d.station = s
	return nil
}

// begin counts the start, and makes presence passes void if the list changed
// while nobody looked: a revocation may have been cut short by a power cut before
// the epoch could rise.
func (s *station) begin() stationState {
	now := s.listPosition()
	_ = s.file.change(func(st *stationState) bool { // the status tells of it
		st.Boots++
		if st.List != now {
			st.List, st.Presence = now, max(st.Presence, now.pack())
		}
		return true
	})
	return s.file.now()
}

func (s *station) listPosition() position {
	epoch, number := s.d.store.Position()
	return position{epoch, number}
}

// maxFirmware is what the protocol allows.
const maxFirmware = 64

func firmware() string {
	v := version.String()
	return v[:min(len(v), maxFirmware)]
}

// portBeside is the port of a TCP listener that peers of a UDP socket reach too: the
// one with the same port number where there is one. 0: there is no listener.
func (d *Daemon) portBeside(socket *session.Socket) int {
	for _, bound := range d.doors.bound {
		if bound.Port() == socket.LocalAddr().Port() {
			return int(bound.Port())
		}
	}
	return d.Port()
}

// goodFirst puts the address that answered last before the others.
func goodFirst(addresses []string, good string) []string {
	if !slices.Contains(addresses, good) {
		return addresses
	}
	out := []string{good}
	for _, a := range addresses {
		if a != good {
			out = append(out, a)
		}
	}
	return out
}

// readFactory reads what the vendor put into the device.
func readFactory(c config.Basestation) (attach.Factory, error) {
	if c.Serial == "" {
		return attach.Factory{}, nil
	}
	data, err := durable.ReadPrivate(c.SecretFile, 1<<10)
	if err != nil {
		return attach.Factory{}, fmt.Errorf("basestation.secret_file: %w", err)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(secret) != len(attach.Secret{}) {
		return attach.Factory{}, fmt.Errorf("basestation.secret_file: %s does not hold 43 characters of a secret", c.SecretFile)
	}
	return attach.Factory{Serial: c.Serial, Secret: attach.Secret(secret)}, nil
}

// networkName tells networks apart by the prefixes that this machine is in.
func networkName() string { return fmt.Sprint(reach.Prefixes()) }

// packet takes what comes to the socket and is no QUIC. It does not block.
func (s *station) packet(from netip.AddrPort, p []byte) {
	if !s.puncher.Deliver(from, p) {
		s.link.Deliver(from, p)
	}
}

// run is the task: the link, and whoever looks at what comes by it. A
// basestation that cannot be reached keeps nobody from being ready.
func (s *station) run(ctx context.Context, ready func()) error {
	changes, stop := s.d.monitor.Watch()
	defer stop()
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer s.started.Wait() // after handle, which starts them
	defer running.Wait()
	defer cancel()
	running.Go(func() { s.handle(ctx) })
	running.Go(func() { s.alarms.run(ctx) })
	running.Go(func() { s.followNetwork(ctx, changes) })
	ready()
	return s.link.Run(ctx)
}

func (s *station) followNetwork(ctx context.Context, changes <-chan struct{}) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			s.link.NetworkChanged()
		case <-look.C:
			s.told.report(s.link.Status())
			s.noteDuplicate(s.link.Status())
			continue
		}
	}
}

// linkChanged is told by the link what happened.
func (s *station) linkChanged(e attach.LinkEvent) {
	if e.Unix != 0 {
		s.clock.told(e.Unix, s.d.floor.Load())
	}
	if e.State == attach.StateAttached && e.Controller.IsValid() {
		s.file.learn(s.link.Status().Address, s.link.Known(), s.link.Roots())
		s.open.renumber()
		s.sayEpoch()
		s.alarms.kick(true)
		s.d.support.call.ask()
	}
	now := s.link.Status()
	s.told.report(now)
	s.noteDuplicate(now)
	s.d.panel.refresh()
}

// noteDuplicate records, once each time, that another device shows this device's
// key. Who is told so is the second of the two; it tries again without end.
func (s *station) noteDuplicate(now reach.Status) {
	var refused *attach.RefusedError
	switch {
	case now.State == attach.StateAttached:
		s.duplicate.Store(false)
	case errors.As(now.Err, &refused) && refused.Code == attach.CodeDuplicate && !s.duplicate.Swap(true):
		s.d.record(acl.Event{What: acl.WhatDuplicate, Source: now.Address, Why: "another device with this device's key is attached to the basestation"})
	}
}

// sayEpoch tells the node which presence passes are void. The next attach does so
// again, so that it does not matter when it fails.
func (s *station) sayEpoch() {
	err := s.link.Send(attach.KindPresence, attach.Presence{Epoch: s.file.now().Presence})
	if err != nil && !errors.Is(err, attach.ErrSilent) {
		s.log.Warn("the basestation was not told the presence epoch", "error", err)
	}
}

// received takes a control message from the link's goroutine.
func (s *station) received(k attach.Kind, body []byte) {
	select {
	case s.inbox <- message{k, slices.Clone(body)}:
	default:
		s.complaints.say("the basestation says more than can be heard", "kind", k)
	}
}

// handle looks at messages one after the other until ctx ends.
func (s *station) handle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.open.drop(func(identity.Fingerprint) bool { return true })
			return
		case m := <-s.inbox:
			if err := s.take(ctx, m); err != nil {
				s.complaints.say("message of the basestation refused", "kind", m.kind, "error", err)
			}
		}
	}
}

func (s *station) take(ctx context.Context, m message) error {
	switch m.kind {
	case attach.KindIntroduction:
		var in attach.Introduction
		if err := attach.Decode(m.body, &in); err != nil {
			return err
		}
		return s.introduce(ctx, &in)
	case attach.KindCandidates:
		var c attach.Candidates
		if err := attach.Decode(m.body, &c); err != nil {
			return err
		}
		return s.candidates(&c)
	case attach.KindRelay:
		var r attach.Relay
		if err := attach.Decode(m.body, &r); err != nil {
			return err
		}
		return s.relay(r)
	case attach.KindCallNumber:
		var n attach.CallNumber
		if err := attach.Decode(m.body, &n); err != nil {
			return err
		}
		s.d.support.call.told(n)
	case attach.KindEventTaken:
		var t attach.EventTaken
		if err := attach.Decode(m.body, &t); err != nil {
			return err
		}
		s.alarms.taken(t.Number)
	}
	return nil // later versions say more
}

// dismiss ends the introductions of keys that were revoked.
func (s *station) dismiss(keys []identity.Fingerprint) {
	if s == nil {
		return
	}
	s.open.drop(func(f identity.Fingerprint) bool { return slices.Contains(keys, f) })
}

// voidPasses is called before a revocation is answered: no presence pass handed out
// so far says anything from then on.
func (s *station) voidPasses() {
	if s == nil {
		return
	}
	now := s.listPosition()
	err := s.file.change(func(st *stationState) bool {
		st.List = now
		st.Presence = max(st.Presence+1, now.pack())
		return true
	})
	if err != nil {
		s.log.Error("the presence epoch is not kept: passes of revoked keys may hold again after a restart", "error", err)
	}
	s.sayEpoch()
}

// addresses are those to be met at over UDP: this machine's, with the socket's
// port.
func (s *station) addresses(port int) []netip.AddrPort {
	bound := s.socket.LocalAddr().Addr()
	if bound.IsValid() && !bound.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(bound, uint16(port))}
	}
	var out []netip.AddrPort
	for _, a := range reach.Candidates() {
		out = append(out, netip.AddrPortFrom(a, uint16(port)))
	}
	return out
}
