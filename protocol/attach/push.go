package attach

// Limits of an event.
const (
	maxEventKind = 64
	maxEventData = 900
)

// Event is the body of KindEvent: something that happened at the device and that
// the absent should hear of. A device keeps it until EventTaken names its
// number, and sends it again on every new link until then.
type Event struct {
	Number uint64 `cbor:"1,keyasint"`
	Kind   string `cbor:"2,keyasint"`           // 1 to 64 bytes
	Data   []byte `cbor:"3,keyasint,omitempty"` // JSON, at most 900 bytes; not looked at here
}

func (e *Event) check() error {
	if len(e.Kind) < 1 || len(e.Kind) > maxEventKind || len(e.Data) > maxEventData {
		return ErrMalformed
	}
	return nil
}

// EventTaken is the body of KindEventTaken.
type EventTaken struct {
	Number uint64 `cbor:"1,keyasint"`
}
