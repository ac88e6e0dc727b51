package pairing

import (
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

// BeginRequest is a client's first message in button mode. Names that are not
// composed (NFC) are composed.
type BeginRequest struct {
	Name       string // of the key, "Alice's laptop": 1 to MaxNameRunes, see CleanName
	User       string // who the person wants to be, "Alice"; empty leaves it to the device
	Commitment []byte // CommitmentBytes, from Asker.Commitment
}

func (r *BeginRequest) clean() (err error) {
	if r.Name, err = CleanName(r.Name); err != nil {
		return &RequestError{"name", err.Error()}
	}
	if r.User != "" {
		if r.User, err = CleanName(r.User); err != nil {
			return &RequestError{"user", err.Error()}
		}
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
	if r.Exchange == "" || len(r.Exchange) > maxExchangeBytes {
		return &RequestError{"exchange", "not one of this device"}
	}
	if len(r.Nonce) != NonceBytes {
		return &RequestError{"nonce", fmt.Sprintf("want %d bytes", NonceBytes)}
	}
	return nil
}
