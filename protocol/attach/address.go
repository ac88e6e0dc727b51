package attach

import (
	"encoding/binary"
	"net/netip"
)

// An address on the wire is its IP and its port, 6 bytes for IPv4 and 18 for
// IPv6; the length tells them apart. Zones are not sent.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(b, a.Addr().Unmap().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func parseAddress(b []byte) (netip.AddrPort, error) {
	if len(b) != 6 && len(b) != 18 {
		return netip.AddrPort{}, ErrMalformed
	}
	ip, _ := netip.AddrFromSlice(b[:len(b)-2])
	a := netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:]))
	// One address has one form: a mapped IPv4 address must come as IPv4.
	if ip.Is4In6() || a.Port() == 0 {
		return netip.AddrPort{}, ErrMalformed
	}
	return a, nil
}
