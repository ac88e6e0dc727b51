package pairing

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// ErrWrongCode means that the device has not proven the code that was typed: it
// is wrong, or an old one, or somebody stands in between.
var ErrWrongCode = errors.New("the code is not the one that the device shows")

// A CodeAsker is the client's half of one exchange in code or label mode: send Share, give
// the reply to Answer, send what it returns. Each exchange needs a new one, and
// costs the device's owner one of few tries. It is not for several goroutines.
type CodeAsker struct {
	prover *spake2plus.Prover
}

// NewCodeAsker begins the client's half between the client's own key and the key
// that the device proved on this session, whose exporter it is (as in NewAsker).
// It stretches the code, which takes a moment and StretchKiB of memory.
func NewCodeAsker(own, device identity.Fingerprint, exporter []byte, code Passcode, salt []byte) (*CodeAsker, error) {
	if code.IsZero() {
		return nil, ErrNotCode
	}
	return newAsker(own, device, exporter, codeDomain, code.digits, salt)
}

// NewLabelAsker is NewCodeAsker for the code on a label.
func NewLabelAsker(own, device identity.Fingerprint, exporter []byte, label LabelCode, salt []byte) (*CodeAsker, error) {
	if label.IsZero() {
		return nil, ErrNotLabel
	}
	return newAsker(own, device, exporter, labelDomain, label.text, salt)
}

func newAsker(own, device identity.Fingerprint, exporter []byte, domain, code string, salt []byte) (*CodeAsker, error) {
	switch {
	case own.IsZero() || device.IsZero():
		return nil, errors.New("pair: fingerprint missing")
	case len(exporter) != ExporterBytes:
		return nil, fmt.Errorf("pair: the exporter has %d bytes, want %d", len(exporter), ExporterBytes)
	case len(salt) != SaltBytes:
		return nil, fmt.Errorf("pair: the salt has %d bytes, want %d", len(salt), SaltBytes)
	}
	b := binding{device: device, client: own, exporter: bytes.Clone(exporter)}
	return &CodeAsker{prover: spake2plus.NewProver(secretsOf(code, device, salt), b.parties(domain))}, nil
}

// Share is what the CodeRequest carries.
func (a *CodeAsker) Share() []byte { return a.prover.Share() }

// Answer checks the device's proof and returns the message with the client's. It
// works once. After ErrWrongCode nothing must be sent: a proof could be used to
// try codes against.
func (a *CodeAsker) Answer(reply CodeReply) (ConfirmRequest, error) {
	r := ConfirmRequest{Exchange: reply.Exchange, Confirm: make([]byte, spake2plus.ConfirmBytes)}
	if err := r.check(); err != nil {
		return ConfirmRequest{}, fmt.Errorf("reply of the device: %w", err)
	}
	confirm, err := a.prover.Finish(reply.Share, reply.Confirm)
	switch {
	case errors.Is(err, spake2plus.ErrConfirm):
		return ConfirmRequest{}, ErrWrongCode
	case errors.Is(err, spake2plus.ErrUsed):
		return ConfirmRequest{}, ErrAskerUsed
	case err != nil:
		return ConfirmRequest{}, fmt.Errorf("reply of the device: %w", err)
	}
	r.Confirm = confirm
	return r, nil
}
