package basestation

import (
	"encoding/json"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A nodeMessage is what one node of a fleet says to another, about introductions
// whose client is attached to one and whose device to the other. Exactly one field
// is set. A message may be lost; then the introduction is a no, like one whose
// packets were lost.
//
//	node of the client                node of the device
//	  | Order ------------------------->|  whoever has the device asks it, the others are silent
//	  |<--------------------- Introduced|
//	  | ToDevice ---------------------->|  CANDIDATES
//	  |<----------------------- ToClient|
//	  | Ticket ------------------------>|
//	  |<------------------------ Granted|
type nodeMessage struct {
	Order      *order                 `json:",omitempty"`
	Introduced *accepted              `json:",omitempty"`
	ToDevice   *passed                `json:",omitempty"`
	ToClient   *passed                `json:",omitempty"`
	Ticket     *wanted                `json:",omitempty"`
	Granted    *grantedTo             `json:",omitempty"`
	Attached   []identity.Fingerprint `json:",omitempty"` // these devices attached to the sender
}

type accepted struct {
	Client, Request uint64
	Body            []byte // attach.Introduced in its own encoding: its ticket does not print itself into JSON
}

type passed struct {
	To    uint64 // request, or index of the client
	Offer attach.Offer
}

type wanted struct{ Request, Client uint64 }

type grantedTo struct {
	Client uint64
	Ticket []byte
}

func encodeNodeMessage(m *nodeMessage) ([]byte, error) { return json.Marshal(m) }

func decodeNodeMessage(data []byte) (*nodeMessage, error) {
	m := new(nodeMessage)
	err := json.Unmarshal(data, m)
	return m, err
}

// receiveNode takes the word of another node.
func (h *hub) receiveNode(now time.Duration, from string, m *nodeMessage) {
	switch {
	case m.Order != nil:
		o := *m.Order
		o.From.Node = from
		h.place(now, o)
	case m.Introduced != nil:
		receive(m.Introduced.Body, func(i attach.Introduced) {
			h.introduced(now, m.Introduced.Client, end{from, m.Introduced.Request}, i)
		})
	case m.ToDevice != nil:
		h.toDevice(now, m.ToDevice.To, m.ToDevice.Offer)
	case m.ToClient != nil:
		h.toClient(now, m.ToClient.To, m.ToClient.Offer)
	case m.Ticket != nil:
		t := h.ticket(now, m.Ticket.Request)
		h.send(from, &nodeMessage{Granted: &grantedTo{m.Ticket.Client, t[:]}})
	case len(m.Attached) > 0:
		h.newsOf(now, from, m.Attached)
	case m.Granted != nil && len(m.Granted.Ticket) == len(attach.Ticket{}):
		h.granted(now, m.Granted.Client, attach.Ticket(m.Granted.Ticket))
	}
}
