package pairing

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Caller is who asks and over what, as the session knows it. The zero value
// may do nothing.
type Caller struct {
	Fingerprint identity.Fingerprint
	Exporter    []byte     // ExporterBytes of the session under ExporterLabel, empty context
	Local       bool       // the source is on a directly connected network
	TCP         bool       // the session came by a TCP listening socket, not by QUIC
	Source      netip.Addr // counts tries; the zero value is a source like any other
}

// own returns a Caller that shares no memory with the one who made it.
func (c Caller) own() (Caller, error) {
	if len(c.Exporter) != ExporterBytes {
		return Caller{}, fmt.Errorf("pairing: the exporter has %d bytes, want %d", len(c.Exporter), ExporterBytes)
	}
	c.Exporter = bytes.Clone(c.Exporter)
	return c, nil
}

// An opening is a client's first message in some mode.
type opening interface {
	clean() error // composes the names; a *RequestError otherwise
	names() (name, user string)
}

func (r *BeginRequest) names() (name, user string) { return r.Name, r.User }

// cleanNames checks and composes the names that every first message has.
func cleanNames(name, user *string) (err error) {
	if *name, err = CleanName(*name); err != nil {
		return &RequestError{"name", err.Error()}
	}
	if *user != "" {
		if *user, err = CleanName(*user); err != nil {
			return &RequestError{"user", err.Error()}
		}
	}
	return nil
}

// checkExchange looks at the form of an exchange's name as it comes back.
func checkExchange(id string) error {
	if id == "" || len(id) > maxExchangeBytes {
		return &RequestError{"exchange", "not one of this device"}
	}
	return nil
}

// BeginRequest is a client's first message in button mode. Names that are not
// composed (NFC) are composed.
type BeginRequest struct {
	Name       string // of the key, "Alice's laptop": 1 to MaxNameRunes, see CleanName
	User       string // who the person wants to be, "Alice"; empty leaves it to the device
	Commitment []byte // CommitmentBytes, from Asker.Commitment
}

func (r *BeginRequest) clean() error {
	if err := cleanNames(&r.Name, &r.User); err != nil {
		return err
	}
	if len(r.Commitment) != CommitmentBytes {
		return &RequestError{"commitment", fmt.Sprintf("want %d bytes", CommitmentBytes)}
	}
	return nil
}

// BeginReply is the device's answer to it.
type BeginReply struct {
	Exchange string // names this exchange in Reveal
	Nonce    []byte // NonceBytes
}

// RevealRequest is a client's second message. The answer to it waits for the press.
type RevealRequest struct {
	Exchange string
	Nonce    []byte // NonceBytes
}

func (r *RevealRequest) check() error {
	if err := checkExchange(r.Exchange); err != nil {
		return err
	}
	if len(r.Nonce) != NonceBytes {
		return &RequestError{"nonce", fmt.Sprintf("want %d bytes", NonceBytes)}
	}
	return nil
}
