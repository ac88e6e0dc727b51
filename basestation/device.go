package basestation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// enrolTime is how long an answer may take: what the attach node gives us.
const enrolTime = 20 * time.Second

// eventTime is how long the store may take for one event; after it the device
// sends it again.
const eventTime = 30 * time.Second

// ask decides whether a device may attach, at once or in a task.
func (h *hub) ask(now time.Duration, r *attach.Request) {
	if h.draining {
		_ = h.node.Answer(now, r.Index, attach.CodeBusy)
		return
	}
	h.enrolling[r.Index] = particulars{r.Firmware, r.Serial, r.Boots, now + enrolTime + sweepEvery}
	if code, decided := h.enrol(context.Background(), r, false); decided {
		h.decide(now, r.Index, code)
		return
	}
	started := h.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, enrolTime)
		defer cancel()
		code, _ := h.enrol(ctx, r, true)
		h.post(func(now time.Duration) {
			// It may have been blocked while the store was asked.
			if since, decided := h.enrol(context.Background(), r, false); decided && since != attach.CodeAccepted {
				code = since
			}
			h.decide(now, r.Index, code)
		})
	})
	if !started {
		h.decide(now, r.Index, attach.CodeBusy)
	}
}

func (h *hub) decide(now time.Duration, index uint64, code attach.Code) {
	if code != attach.CodeAccepted {
		h.metrics.notEnrolled.Inc()
		delete(h.enrolling, index)
	}
	_ = h.node.Answer(now, index, code) // it may have given up
}

// event is called by the attach node with what became of a device.
func (h *hub) event(e attach.NodeEvent) {
	switch e.Change {
	case attach.PeerAttached:
		h.deviceAttached(e.Peer)
	case attach.PeerMoved:
		h.metrics.moved.Inc()
		h.presence.Moved(e.Peer.Fingerprint, e.Peer.Address)
		h.seen(e.Peer.Slot(), e.Peer.Index, e.Peer.Address)
	case attach.PeerGone:
		h.deviceGone(e.Peer, e.Reason)
	case attach.PeerDuplicate:
		h.duplicate(e.Peer, e.Other)
	}
}

func (h *hub) deviceAttached(p attach.Peer) {
	h.metrics.attached.Inc()
	said := h.enrolling[p.Index]
	delete(h.enrolling, p.Index)
	id := p.Fingerprint.ID()
	h.roster.add(p.Slot(), p.Index, attach.Prefix(id))
	h.seen(p.Slot(), p.Index, p.Address)
	if h.others() > 0 {
		h.news = append(h.news, p.Fingerprint)
	}
	record := registry.Presence{
		Fingerprint: attach.Hash(p.Fingerprint), Since: uint64(time.Now().Unix()),
		Firmware: said.firmware, Boots: said.boots, Serial: said.serial,
	}
	record.SetAddress(p.Address)
	h.presence.Attached(record)
	h.events.Tell(push.Event{Kind: push.KindAttached, Device: string(id), Data: attachedData(p, said, h.addressOf(p.Address))})
}

func attachedData(p attach.Peer, said particulars, source netip.Addr) json.RawMessage {
	path := "udp"
	if attach.IsStream(p.Address) {
		path = "tcp"
	}
	b, err := json.Marshal(struct {
		Address  string `json:"address"`
		Path     string `json:"path"`
		Firmware string `json:"firmware,omitempty"`
		Boots    uint32 `json:"boots,omitempty"`
		Serial   string `json:"serial,omitempty"`
	}{source.String(), path, said.firmware, said.boots, said.serial})
	if err != nil {
		return nil // cannot be: text and numbers
	}
	return b
}

// deviceGone: a device that has a newer link, here or at another node, is not gone.
func (h *hub) deviceGone(p attach.Peer, reason attach.CloseReason) {
	h.roster.remove(p.Slot(), p.Index)
	h.seen(p.Slot(), 0, netip.AddrPort{})
	if reason == attach.CloseReplaced || reason == attach.CloseMoved && h.others() > 0 {
		return
	}
	h.metrics.gone.Inc()
	h.presence.Gone(p.Fingerprint, reason)
	h.events.Tell(goneEvent(p.Fingerprint.ID(), reason))
}

func goneEvent(id identity.ID, reason attach.CloseReason) push.Event {
	return push.Event{Kind: push.KindGone, Device: string(id), Data: json.RawMessage(fmt.Sprintf(`{"reason":%q}`, reason))}
}

// duplicate: two live devices show one key. The first stays; somebody has copied
// its key, and operator and owner want to know.
func (h *hub) duplicate(p attach.Peer, other netip.AddrPort) {
	h.alarm(p, h.addressOf(other).String())
}

// twin: the same, where the second is attached to another node.
func (h *hub) twin(p attach.Peer, node string) { h.alarm(p, "node "+node) }

func (h *hub) alarm(p attach.Peer, second string) {
	h.metrics.duplicates.Inc()
	id := p.Fingerprint.ID()
	first := h.addressOf(p.Address).String()
	h.log.Warn("two live devices show one key", "device", id, "first", first, "second", second)
	h.events.Tell(push.Event{
		Kind: push.KindDuplicate, Device: string(id),
		Data: json.RawMessage(fmt.Sprintf(`{"first":%q,"second":%q}`, first, second)),
	})
}

// eventKind is what a device may call an event: words that fit into a subject.
var eventKind = regexp.MustCompile(`^[a-z0-9_-]{1,32}(\.[a-z0-9_-]{1,32}){0,3}$`)

// deviceEvent keeps what a device says and then tells it so. An event that cannot
// be kept is not taken: the device sends it again.
func (h *hub) deviceEvent(now time.Duration, from attach.Peer, m attach.Event) {
	if !eventKind.MatchString(m.Kind) || len(m.Data) > 0 && !json.Valid(m.Data) {
		// It will never fit: taken, so that it does not come for ever.
		h.metrics.badEvents.Inc()
		_ = h.tell(now, from.Index, attach.KindEventTaken, attach.EventTaken{Number: m.Number})
		return
	}
	if !h.told.Allow(now, from.Fingerprint) {
		h.metrics.limited.Inc()
		return
	}
	id := from.Fingerprint.ID()
	e := push.Event{
		// The same when the device sends it again, so that a receiver can tell.
		ID: fmt.Sprintf("%s-%d", id, m.Number), Kind: push.KindDevice + "." + m.Kind, Device: string(id), Data: m.Data,
	}
	h.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, eventTime)
		defer cancel()
		if err := h.events.Push(ctx, e); err != nil {
			h.chatter.Warn("an event of a device was not kept", "device", id, "err", err)
			return
		}
		h.metrics.events.Inc()
		h.post(func(now time.Duration) {
			_ = h.tell(now, from.Index, attach.KindEventTaken, attach.EventTaken{Number: m.Number})
		})
	})
}

// block closes the link of a device that may not attach any more.
func (h *hub) block(now time.Duration, id identity.ID) {
	if p, ok := h.node.DeviceByID(id); ok {
		_ = h.node.Close(now, p.Index, attach.CloseLeaving) // it is there
	}
}
