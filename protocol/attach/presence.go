package attach

import (
	"encoding/binary"
	"fmt"

	"crypto/x509"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Presence is the body of KindPresence: presence passes of an older epoch are
// void. A device says it after each attach and when the epoch rises.
type Presence struct {
	Epoch uint64 `cbor:"1,keyasint"`
}

// A presence pass lets its bearer hear from a node that a device is offline, and
// since when, instead of a bare no. The device hands it out inside sessions; its
// epoch rises when somebody's permission is taken.
//
//	0  1  1, the version of this layout
//	1  8  epoch
//	9  2  length of the key
//	11 .. public key of the device: SubjectPublicKeyInfo, DER
//	.. .. signature, purpose "presence": id of the device 26, epoch 8, fingerprint of the client 32
const (
	presenceVersion = 1
	presenceHead    = 1 + 8 + 2
)

// NewPresencePass returns the pass of one client, made with the device's key. It
// returns ErrTooLarge for a key that is too long for one (RSA).
func NewPresencePass(device *identity.Key, epoch uint64, client identity.Fingerprint) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(device.Public())
	if err != nil {
		return nil, err
	}
	signature, err := device.Sign(identity.PurposePresence, presenceBytes(device.ID(), epoch, client))
	if err != nil {
		return nil, fmt.Errorf("sign presence pass: %w", err)
	}
	b := binary.BigEndian.AppendUint64([]byte{presenceVersion}, epoch)
	b = binary.BigEndian.AppendUint16(b, uint16(len(der)))
	if b = append(append(b, der...), signature...); len(b) > maxPass {
		return nil, ErrTooLarge
	}
	return b, nil
}

// CheckPresencePass returns the epoch of a pass that the device with this id made for
// this client. Whether the epoch is still good is for who knows the present one.
func CheckPresencePass(pass []byte, device identity.ID, client identity.Fingerprint) (epoch uint64, err error) {
	if len(pass) < presenceHead || len(pass) > maxPass || pass[0] != presenceVersion {
		return 0, ErrMalformed
	}
	epoch = binary.BigEndian.Uint64(pass[1:])
	length, rest := int(binary.BigEndian.Uint16(pass[9:])), pass[presenceHead:]
	if length > len(rest) {
		return 0, ErrMalformed
	}
	public, f, err := parseKey(rest[:length])
	if err != nil {
		return 0, err
	}
	if err := identity.PinID(device)(f); err != nil {
		return 0, err
	}
	return epoch, identity.Verify(public, identity.PurposePresence, presenceBytes(device, epoch, client), rest[length:])
}

func presenceBytes(device identity.ID, epoch uint64, client identity.Fingerprint) []byte {
	return append(binary.BigEndian.AppendUint64([]byte(device), epoch), client[:]...)
}
