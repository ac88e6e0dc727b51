package attach

import (
	"crypto/rand"
	"log/slog"
)

// A Ticket opens one leg through a relay, once. It does not print: who has it
// takes the place of who was meant to have it (and meets TLS there).
type Ticket [32]byte

// NewTicket returns a random ticket.
func NewTicket() (t Ticket) {
	_, _ = rand.Read(t[:]) // never fails, crypto/rand says
	return t
}

// IsZero reports whether there is no ticket.
func (t Ticket) IsZero() bool { return t == Ticket{} }

func (Ticket) String() string   { return "(ticket)" }
func (Ticket) GoString() string { return "(ticket)" }

// LogValue keeps a ticket out of logs.
func (t Ticket) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText keeps a ticket out of JSON.
func (t Ticket) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalCBOR returns the ticket as a byte string, empty for none.
func (t Ticket) MarshalCBOR() ([]byte, error) {
	if t.IsZero() {
		return appendBytes(nil, nil), nil
	}
	return appendBytes(nil, t[:]), nil
}

// UnmarshalCBOR takes a byte string of 0 or 32 bytes.
func (t *Ticket) UnmarshalCBOR(b []byte) error {
	*t = Ticket{}
	if content, err := parseBytes(b); err != nil || len(content) == 0 {
		return err
	}
	return fixedBytes(t[:], b)
}
