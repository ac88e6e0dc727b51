// Package push carries what happens on a basestation to the vendor's own
// servers: events of devices and their presence as signed webhooks (Pusher), and
// the question whether an introduction may take place (Asker).
//
// The basestation's server uses both. Events go through the log of the store, so
// that they survive a restart and any consumer of the log (a subscriber of NATS,
// for example) sees them too; a webhook is told at least once. The package knows
// neither devices nor introductions: it is told an Event or a Question, and what
// an answer allows is done by others. It follows no redirect and trusts no
// answer that comes late.
package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// Kinds of events. A webhook chooses by prefix: "presence" is both of the first.
const (
	KindAttached  = "presence.attached" // a device is attached
	KindGone      = "presence.gone"     // it is not any more; the data says why
	KindDuplicate = "alarm.duplicate"   // two live devices show one key
	KindDevice    = "device"            // the device itself says so; the data is its own
)

// Limits of events.
const (
	// MaxDataBytes is what an event may carry: a device sends at most 900 bytes,
	// the rest is what the basestation adds.
	MaxDataBytes = 4 << 10
	// maxTold bounds what Tell holds in memory, some 20 MB: a fleet that comes
	// back after a power cut is told at the pace of the disk.
	maxTold = 64 << 10
	// SubjectPrefix is in front of the subjects in the log: push, the kind, the
	// device. LivePattern matches the same events as they are published to whoever
	// listens at that moment, on any node.
	SubjectPrefix = "push"
	livePrefix    = "live"
	LivePattern   = livePrefix + ".>"
)

// An Event is what a webhook is told.
//
//	{"id": "…", "kind": "presence.gone", "time": "2026-01-02T03:04:05Z",
//	 "device": "…", "node": "…", "data": {…}}
type Event struct {
	ID     string          `json:"id"`             // unique and the same at every try: drop what you have seen
	Kind   string          `json:"kind"`           // words of [a-z0-9_-] joined by dots
	Time   time.Time       `json:"time"`           // of the node's clock, in UTC; zero: now
	Device string          `json:"device"`         // id of the device
	Node   string          `json:"node,omitempty"` // which node saw it
	Data   json.RawMessage `json:"data,omitempty"` // an object, by kind
}

// A Config is what a Pusher needs.
type Config struct {
	Store    store.Store
	Node     string // name of this node, for events; may be empty
	Webhooks []Webhook
	Log      *slog.Logger // nil: silent
}

// A Pusher takes events and sees that webhooks are told. Push and Tell may be
// called before Run and by several goroutines; they must not be called after it.
type Pusher struct {
	store  store.Store
	node   string
	hooks  []*hook
	log    *slog.Logger
	told   chan Event
	ready  chan struct{}
	lost   atomic.Uint64
	logged atomic.Uint64
}

// New checks the webhooks and returns a Pusher.
func New(c Config) (*Pusher, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pusher{store: c.Store, node: c.Node, log: c.Log, told: make(chan Event, maxTold), ready: make(chan struct{})}
	seen := map[string]bool{}
	for _, w := range c.Webhooks {
		h, err := newHook(w, c.Log)
		if err != nil {
			return nil, fmt.Errorf("webhook %q: %w", w.Name, err)
		}
		if seen[w.Name] {
			return nil, fmt.Errorf("webhook %q: the name is used twice", w.Name)
		}
		seen[w.Name] = true
		p.hooks = append(p.hooks, h)
	}
	close(p.ready) // the log takes events before anybody delivers them
	return p, nil
}

// Push writes the event into the log. When it returns nil the event survives a
// crash; a device may be told that it was taken.
func (p *Pusher) Push(ctx context.Context, e Event) error { return p.publish(ctx, e, true) }

// publish has the event seen by whoever listens now, after it was logged if it is
// to be.
func (p *Pusher) publish(ctx context.Context, e Event, logged bool) error {
	data, subject, err := p.encode(&e)
	if err != nil {
		return err
	}
	if logged {
		if err := p.store.Log(ctx, subject, data); err != nil {
			return fmt.Errorf("log the event %s: %w", e.Kind, err)
		}
		p.logged.Add(1)
	}
	if err := p.store.Publish(livePrefix+strings.TrimPrefix(subject, SubjectPrefix), data); err != nil {
		p.log.Debug("nobody sees an event live", "kind", e.Kind, "error", err) // it is in the log
	}
	return nil
}

// Tell is Push for who must not wait, as the reader of a socket. Presence that no
// webhook wants is not logged, only published to those who listen. The event is
// lost when 65,536 others wait already, or when the process ends first: presence
// is told anew at the next attach, and Stats counts the losses.
func (p *Pusher) Tell(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case p.told <- e:
	default:
		p.lost.Add(1)
	}
}

// Run delivers events to the webhooks until ctx ends. What was told until then
// is written into the log before it returns, for the next start.
func (p *Pusher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	errs := make(chan error, 1+len(p.hooks)*maxWorkers)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	start := func(task func(context.Context) error) {
		running.Go(func() {
			if err := task(ctx); err != nil {
				errs <- err
				stop()
			}
		})
	}
	start(p.write)
	for _, h := range p.hooks {
		for range h.workers {
			start(func(ctx context.Context) error { return h.consume(ctx, p.store) })
		}
	}
	running.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	for _, h := range p.hooks {
		h.client.CloseIdleConnections()
	}
	return errors.Join(all...)
}

// Ready is closed from the start.
func (p *Pusher) Ready() <-chan struct{} { return p.ready }

func (p *Pusher) String() string { return "push" }

// lastWrites is how long Run writes after its end what was told before it.
const lastWrites = 3 * time.Second

// writers is how many told events are under way into the log at once: each
// waits for the disk, which syncs several together.
const writers = 16

// write takes what was told into the log.
func (p *Pusher) write(ctx context.Context) error {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	for range writers {
		running.Go(func() { p.writeSome(late, ctx.Done()) })
	}
	<-ctx.Done()
	defer time.AfterFunc(lastWrites, cancel).Stop()
	running.Wait()
	return nil
}

// writeSome is one writer. After last it writes what is queued and returns.
func (p *Pusher) writeSome(ctx context.Context, last <-chan struct{}) {
	for {
		var e Event
		select {
		case e = <-p.told:
		case <-last:
			select {
			case e = <-p.told:
			default:
				return
			}
		}
		if err := p.publish(ctx, e, !strings.HasPrefix(e.Kind, presence) || p.wanted(e.Kind)); err != nil {
			p.lost.Add(1)
			p.log.Warn("an event is lost", "kind", e.Kind, "device", e.Device, "error", err)
		}
	}
}

// presence is kept in records anyhow. It goes through the log only for a webhook: a
// fleet that comes back is a million of these events, each of which would be a write
// to the disk and an entry in the index of the store.
const presence = "presence."

// wanted reports whether a webhook is told of kind.
func (p *Pusher) wanted(kind string) bool {
	return slices.ContainsFunc(p.hooks, func(h *hook) bool { return wants(h.Kinds, kind) })
}

// encode completes the event and returns it as it is logged and sent.
func (p *Pusher) encode(e *Event) (data []byte, subject string, err error) {
	if len(e.Data) > MaxDataBytes {
		return nil, "", fmt.Errorf("event %s: data of %d bytes, at most %d", e.Kind, len(e.Data), MaxDataBytes)
	}
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	if e.Node == "" {
		e.Node = p.node
	}
	if len(e.Data) > 0 && !json.Valid(e.Data) {
		return nil, "", fmt.Errorf("event %s: the data is no JSON", e.Kind)
	}
	subject = SubjectPrefix + "." + e.Kind
	if e.Device != "" {
		subject += "." + e.Device
	}
	if err := store.CheckSubject(subject); err != nil {
		return nil, "", err
	}
	data, err = json.Marshal(e)
	return data, subject, err
}

// Stats are counters since the start, for metrics.
type Stats struct {
	Logged uint64 // events in the log
	Lost   uint64 // told events that were not
	Hooks  map[string]HookStats
}

// HookStats are those of one webhook.
type HookStats struct {
	Delivered uint64 // answered with 2xx
	Failed    uint64 // tries that were not
	Dropped   uint64 // events given up
	Waiting   bool   // the last try failed, and the next waits
}

// Stats returns the counters.
func (p *Pusher) Stats() Stats {
	s := Stats{Logged: p.logged.Load(), Lost: p.lost.Load(), Hooks: map[string]HookStats{}}
	for _, h := range p.hooks {
		s.Hooks[h.Name] = HookStats{
			Delivered: h.delivered.Load(), Failed: h.failed.Load(), Dropped: h.dropped.Load(), Waiting: h.waiting.Load() > 0,
		}
	}
	return s
}

// wants reports whether a webhook with these prefixes is told of kind. None is
// all.
func wants(prefixes []string, kind string) bool {
	if len(prefixes) == 0 {
		return true
	}
	for _, p := range prefixes {
		if kind == p || strings.HasPrefix(kind, p+".") {
			return true
		}
	}
	return false
}

// refuseRedirects keeps what is sent, signatures and all, at the address that
// the operator wrote.
func refuseRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
