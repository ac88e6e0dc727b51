package basestation

import (
	"context"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// An order is a question on its way to the node that has the device.
type order struct {
	From      end                  // where the client is
	Device    identity.ID          // it wants
	Client    identity.Fingerprint // that asks
	Hash      [32]byte             // of the client's handshake
	Introduce attach.Introduce
	Observed  netip.AddrPort // of the client
	Source    netip.Addr     // of the client, also in a stream
}

// A request is an introduction as the node of the device sees it: the device was
// asked.
//
//	INTRODUCTION -> asked -- ANSWER yes --> accepted -- 60 s --> forgotten
//	                  '----- ANSWER no, or 10 s ---------------> forgotten
type request struct {
	device   uint64 // index
	id       identity.ID
	client   end
	until    time.Duration
	accepted bool
	offers   int
	vendor   string
}

// place asks a device that is attached here; false when it is not.
func (h *hub) place(now time.Duration, o order) bool {
	p, ok := h.node.DeviceByID(o.Device)
	if !ok {
		return false
	}
	if a, twice := h.elsewhere[p.Fingerprint]; twice && o.From.Node == "" {
		h.sendOn(o, []string{a.node}) // it may have left: whoever has it answers
	}
	if len(h.requests) >= h.limits.Questions || !h.mayAsk(now, o) {
		h.metrics.limited.Inc()
		return true // and the no leaves in its time
	}
	if h.authorize == nil && h.vendor == nil {
		h.request(now, p, o, nil, "")
		return true
	}
	question := push.Question{
		Client: o.Client.String(), Device: string(o.Device), Source: netip.AddrPortFrom(o.Source, max(o.Observed.Port(), 1)).String(),
		Time: time.Now(), Attach: identity.Fingerprint(p.Hash).String(), // 64 hexadecimal digits as well
	}
	if h.gate != nil {
		question.Country = h.gate.Country(o.Source)
	}
	if !h.start(func(ctx context.Context) { h.prepare(ctx, question, o) }) {
		h.metrics.limited.Inc()
	}
	return true
}

// An acquaintance is a client and the device of whose pass it is the bearer.
type acquaintance struct {
	device identity.ID
	client identity.Fingerprint
}

// mayAsk reports whether a device may be asked once more now. The signature of a pass
// is looked at only when strangers have used up what the device has for everybody.
func (h *hub) mayAsk(now time.Duration, o order) bool {
	if h.asked.Allow(now, o.Device) {
		return true
	}
	if len(o.Introduce.Presence) == 0 {
		return false
	}
	_, err := attach.CheckPresencePass(o.Introduce.Presence, o.Device, o.Client)
	return err == nil && h.known.Allow(now, acquaintance{o.Device, o.Client})
}

// prepare finds out what has to be known before a device is asked. It is a task.
func (h *hub) prepare(ctx context.Context, question push.Question, o order) {
	grant, allowed := h.askVendor(ctx, question)
	if !allowed {
		return // the no leaves in its time
	}
	vendor := ""
	if h.vendor != nil {
		ctx, cancel := context.WithTimeout(ctx, lateYes)
		defer cancel()
		var err error
		if vendor, err = h.vendor(ctx, o.Device); err != nil {
			h.chatter.Warn("it is not known on whose account a device relays", "device", o.Device, "err", err)
			return
		}
	}
	h.post(func(now time.Duration) {
		if p, ok := h.node.DeviceByID(o.Device); ok {
			h.request(now, p, o, grant, vendor)
		}
	})
}

// askVendor asks the vendor whether an introduction may be.
func (h *hub) askVendor(ctx context.Context, question push.Question) (grant []byte, allowed bool) {
	if h.authorize == nil {
		return nil, true
	}
	v, err := h.authorize(ctx, question)
	if err != nil {
		h.chatter.Warn("the vendor was asked in vain about an introduction", "device", question.Device, "err", err)
	}
	if err != nil || !v.Allow {
		h.metrics.unauthorized.Inc()
		return nil, false
	}
	return v.Grant, true
}

func (h *hub) request(now time.Duration, p attach.Peer, o order, grant []byte, vendor string) {
	h.number++
	m := attach.NewIntroduction(h.number, o.Hash, &o.Introduce, o.Observed)
	m.Grant = grant
	if err := h.tell(now, p.Index, attach.KindIntroduction, m); err != nil {
		h.chatter.Info("a device was not asked", "device", o.Device, "err", err)
		return
	}
	h.requests[h.number] = &request{device: p.Index, id: o.Device, client: o.From, until: now + lateYes, vendor: vendor}
}

// answer takes a device's word on an introduction.
func (h *hub) answer(now time.Duration, from attach.Peer, a attach.Answer) {
	r := h.requests[a.Request]
	if r == nil || r.device != from.Index || r.accepted || now >= r.until {
		return
	}
	if a.Verdict != attach.VerdictYes {
		delete(h.requests, a.Request)
		return // the no leaves in its time
	}
	r.accepted, r.until = true, now+rememberedFor
	i := attach.Introduced{Offer: a.Offer, Ticket: h.ticket(now, a.Request)}
	if !attach.IsStream(from.Address) {
		i.Observed = attach.Address{AddrPort: from.Address}
	}
	if r.client.Node == "" {
		h.introduced(now, r.client.Number, end{Number: a.Request}, i)
		return
	}
	i.Certificate = h.certificate
	body, err := attach.Encode(i)
	if err != nil {
		h.chatter.Info("a yes was not passed on", "device", r.id, "err", err)
		return
	}
	h.send(r.client.Node, &nodeMessage{Introduced: &accepted{r.client.Number, a.Request, body}})
}

// ticket makes the tickets of one relayed connection of a request; the zero ticket
// is a no.
func (h *hub) ticket(now time.Duration, number uint64) attach.Ticket {
	r := h.requests[number]
	if r == nil || !r.accepted || now >= r.until || h.pair == nil {
		return attach.Ticket{}
	}
	var forDevice attach.Ticket
	forClient, forDevice, err := h.pair(relay.Who{Device: string(r.id), Vendor: r.vendor}, func() {
		h.post(func(now time.Duration) { h.relay(now, number, forDevice) })
	})
	if err != nil {
		h.chatter.Info("no tickets for a relayed connection", "device", r.id, "err", err)
		return attach.Ticket{}
	}
	return forClient
}

// relay tells a device that the client's leg waits. A device that has attached
// anew since it said yes is told on its new link.
func (h *hub) relay(now time.Duration, number uint64, t attach.Ticket) {
	r := h.requests[number]
	if r == nil {
		return
	}
	m := attach.Relay{Request: number, Ticket: t}
	if h.tell(now, r.device, attach.KindRelay, m) == nil {
		return
	}
	if p, ok := h.node.DeviceByID(r.id); ok && p.Index != r.device {
		r.device = p.Index
		_ = h.tell(now, p.Index, attach.KindRelay, m) // the client tries again
	}
}

// deviceOffers takes further addresses of a device that said yes.
func (h *hub) deviceOffers(now time.Duration, from attach.Peer, m attach.Candidates) {
	r := h.requests[m.Request]
	if r == nil || r.device != from.Index || !r.accepted || r.offers >= maxCandidates {
		return
	}
	r.offers++
	if r.client.Node == "" {
		h.toClient(now, r.client.Number, m.Offer)
		return
	}
	h.send(r.client.Node, &nodeMessage{ToClient: &passed{r.client.Number, m.Offer}})
}

// toDevice passes further addresses of the client on.
func (h *hub) toDevice(now time.Duration, number uint64, o attach.Offer) {
	if r := h.requests[number]; r != nil && r.accepted {
		_ = h.tell(now, r.device, attach.KindCandidates, attach.Candidates{Request: number, Offer: o}) // lost like a packet
	}
}
