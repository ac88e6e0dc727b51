package attach

import (
	"net/netip"
)

// Fields of control bodies that are byte strings of a fixed length. They are
// read here and not by the library, which would fill up what is too short and cut
// what is too long.

// A Hash is the hash of a handshake: it names one attach, or one introduction.
type Hash [32]byte

// MarshalCBOR returns the hash as a byte string.
func (h Hash) MarshalCBOR() ([]byte, error) { return appendBytes(nil, h[:]), nil }

// UnmarshalCBOR takes a byte string of 32 bytes.
func (h *Hash) UnmarshalCBOR(b []byte) error { return fixedBytes(h[:], b) }

// An Address is an IP address and a port: a byte string of 6 or 18 bytes. The
// zero value is none and is left out, or is an empty string.
type Address struct{ netip.AddrPort }

// IsZero reports whether there is no address.
func (a Address) IsZero() bool { return !a.IsValid() }

// MarshalCBOR returns the address as a byte string, empty for none.
func (a Address) MarshalCBOR() ([]byte, error) {
	return appendBytes(nil, appendAddress(nil, a.AddrPort)), nil
}

// UnmarshalCBOR takes a byte string of 0, 6 or 18 bytes.
func (a *Address) UnmarshalCBOR(b []byte) error {
	content, err := parseBytes(b)
	if err != nil {
		return err
	}
	if len(content) == 0 {
		*a = Address{}
		return nil
	}
	a.AddrPort, err = parseAddress(content)
	return err
}

// appendBytes appends a CBOR byte string of less than 256 bytes (RFC 8949 §3.1).
//
//	0  1  0x40 + length        of less than 24 bytes
//	0  2  0x58, length         else
func appendBytes(b, content []byte) []byte {
	if len(content) < 24 {
		b = append(b, 0x40|byte(len(content)))
	} else {
		b = append(b, 0x58, byte(len(content)))
	}
	return append(b, content...)
}

// parseBytes reads what appendBytes writes, in its shortest form alone.
func parseBytes(b []byte) ([]byte, error) {
	switch {
	case len(b) >= 1 && b[0] >= 0x40 && b[0] < 0x58 && len(b) == 1+int(b[0]-0x40):
		return b[1:], nil
	case len(b) >= 2 && b[0] == 0x58 && b[1] >= 24 && len(b) == 2+int(b[1]):
		return b[2:], nil
	}
	return nil, ErrMalformed
}

// fixedBytes fills to, which must be exactly as long as the string in b.
func fixedBytes(to, b []byte) error {
	content, err := parseBytes(b)
	if err != nil || len(content) != len(to) {
		return ErrMalformed
	}
	copy(to, content)
	return nil
}
