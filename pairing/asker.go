package pairing

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/keyholed/keyhole/protocol/identity"
)

// An Asker is the client's half of one exchange in button mode: send
// Commitment with the BeginRequest, give the reply to Answer, show its digits,
// and send its RevealRequest. Each exchange needs a new one. It is not for
// several goroutines.
//
// That the device then says "granted" proves nothing: the person must have
// found the same digits on the device, or the device's key must have been known
// beforehand.
type Asker struct {
	binding binding
	nonce   [NonceBytes]byte
	used    bool
}

// ErrAskerUsed means that Answer was called before. Who would answer two device
// nonces with one nonce of the client would let somebody in the middle choose
// the second with knowledge of the digits.
var ErrAskerUsed = errors.New("this exchange was answered already: begin a new one")

// NewAsker begins the client's half between the client's own key and the key
// that the device proved on this session, whose exporter (ExporterLabel, empty
// context, ExporterBytes) it is.
func NewAsker(own, device identity.Fingerprint, exporter []byte) (*Asker, error) {
	if own.IsZero() || device.IsZero() {
		return nil, errors.New("pair: fingerprint missing")
	}
	if len(exporter) != ExporterBytes {
		return nil, fmt.Errorf("pair: the exporter has %d bytes, want %d", len(exporter), ExporterBytes)
	}
	a := &Asker{binding: binding{device: device, client: own, exporter: append([]byte(nil), exporter...)}}
	rand.Read(a.nonce[:])
	return a, nil
}

// Commitment is what the BeginRequest carries.
func (a *Asker) Commitment() []byte {
	c := a.binding.commitment(a.nonce[:])
	return c[:]
}

// Answer takes the device's reply and returns the digits to show and the
// message to send. It works once; then it returns ErrAskerUsed.
func (a *Asker) Answer(reply BeginReply) (Check, RevealRequest, error) {
	if a.used {
		return "", RevealRequest{}, ErrAskerUsed
	}
	r := RevealRequest{Exchange: reply.Exchange, Nonce: a.nonce[:]}
	if err := r.check(); err != nil {
		return "", RevealRequest{}, fmt.Errorf("reply of the device: %w", err)
	}
	if len(reply.Nonce) != NonceBytes {
		return "", RevealRequest{}, fmt.Errorf("reply of the device: its nonce has %d bytes, want %d", len(reply.Nonce), NonceBytes)
	}
	a.used = true
	return a.binding.check(a.nonce[:], reply.Nonce), r, nil
}

// String keeps the nonce out of logs.
func (a *Asker) String() string { return "asker " + a.binding.client.Short() }

// GoString keeps the nonce out of %#v too.
func (a *Asker) GoString() string { return a.String() }
