package pairing

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A SupportAsker is the hotline's half of one exchange: send Share, give the reply to
// Answer, send what it returns. Each exchange needs a new one, and costs one of three
// tries. It is not for several goroutines.
type SupportAsker struct{ asker CodeAsker }

// NewSupportAsker begins the hotline's half between its own key and the key that the
// device proved on this session, whose exporter it is (as in NewAsker). It stretches the
// code, which takes a moment and StretchKiB of memory.
func NewSupportAsker(own, device identity.Fingerprint, exporter []byte, code SupportCode, salt []byte) (*SupportAsker, error) {
	switch {
	case own.IsZero() || device.IsZero():
		return nil, errors.New("support: fingerprint missing")
	case len(exporter) != ExporterBytes:
		return nil, fmt.Errorf("support: the exporter has %d bytes, want %d", len(exporter), ExporterBytes)
	case len(salt) != SaltBytes:
		return nil, fmt.Errorf("support: the salt has %d bytes, want %d", len(salt), SaltBytes)
	case code.IsZero():
		return nil, ErrNotSupportCode
	}
	b := binding{device: device, client: own, exporter: bytes.Clone(exporter)}
	secrets := secretsOf(code.digits, device, salt)
	return &SupportAsker{CodeAsker{prover: spake2plus.NewProver(secrets, b.parties(supportDomain))}}, nil
}

// Share is what the SupportRequest carries.
func (a *SupportAsker) Share() []byte { return a.asker.Share() }

// Answer checks the device's proof and returns the message with the hotline's. It works
// once. After ErrWrongCode nothing must be sent.
func (a *SupportAsker) Answer(reply CodeReply) (ConfirmRequest, error) { return a.asker.Answer(reply) }
