// Package basestation introduces clients to devices and relays what cannot go
// direct. cmd/keyhole-basestation runs it, and `keyhole demo` does.
//
//	UDP  ─ datagram ─┐                     ┌ registry ─ store     presence, enrolment
//	                 ├─ loop ─ hub ─ tasks ┤ push                 events, authorization
//	TCP  ─ streams ──┘    (attach.Node)    └ relay                tickets
//	       legs, observed addresses             other nodes       introductions sent on
//
// One goroutine, the loop, owns the hub: the attach node, the introductions
// under way, and who is there. The hub is plain code that is handed packets and
// the time; it never waits. What has to wait (a record, a webhook, a word from
// another node) is a task on a goroutine of its own, whose result comes back
// through a bounded channel: a task waits there until the loop takes it, the loop
// never waits for a task, and what would be a task too many is a no.
//
// The package can refuse service. It can neither read a session nor permit one:
// it holds no key of device or client, passes on what they signed, and adds only
// the addresses at which it sees them.
package basestation
