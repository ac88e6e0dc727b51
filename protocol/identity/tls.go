package identity

import (
	"crypto/tls"
	"errors"
)

// ErrNoCertificate means that a peer proved no key at all.
var ErrNoCertificate = errors.New("the peer showed no certificate")

// ServerTLS returns the configuration of a device: TLS 1.3 only, and a client
// must prove a key of an accepted kind before anything it says is read. Who the
// client is (PeerOf) and what it may do are for the caller.
//
// All checks are in VerifyConnection because that one also runs for resumed
// sessions; VerifyPeerCertificate does not.
func ServerTLS(k *Key, protocols ...string) *tls.Config {
	c := k.baseTLS(protocols)
	c.Certificates = []tls.Certificate{k.certificate}
	// "Any": the client proves possession of the key; there is no authority to ask.
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := PeerOf(state)
		return err
	}
	return c
}

// ClientTLS returns the configuration of a client that talks to the device which
// pin accepts. The client sends nothing, its own certificate included, before
// the device has proven its key.
func ClientTLS(k *Key, pin Pin, protocols ...string) *tls.Config {
	c := k.baseTLS(protocols)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &k.certificate, nil
	}
	// Names and authorities mean nothing here; VerifyConnection does the check
	// that matters, and a resumed session does not escape it.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		peer, err := PeerOf(state)
		if err != nil {
			return err
		}
		return pin(peer)
	}
	return c
}

func (k *Key) baseTLS(protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		// Bulk data is the common case here; the slow start of record sizes that
		// crypto/tls has for web pages costs a fifth of the CPU.
		DynamicRecordSizingDisabled: true,
	}
}

// PeerOf returns the fingerprint of the key that the other side of a TLS
// connection proved, on resumed connections the one proven at the first.
func PeerOf(state tls.ConnectionState) (Fingerprint, error) {
	if len(state.PeerCertificates) == 0 {
		return Fingerprint{}, ErrNoCertificate
	}
	return FingerprintOf(state.PeerCertificates[0].PublicKey)
}
