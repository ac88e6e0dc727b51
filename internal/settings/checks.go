package settings

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Within returns what is wrong with a number or a duration that shall be low to
// high, or "".
func Within[T cmp.Ordered](n, low, high T) string {
	if n >= low && n <= high {
		return ""
	}
	return fmt.Sprintf("%v is out of range: want %v to %v", n, low, high)
}

// Listen returns what is wrong with an address to listen on, or "". It accepts
// what net.Listen would bind without asking a name server.
func Listen(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Quote(address) + ` is no address to listen on: want ":7443", "192.0.2.7:7443" or "[2001:db8::7]:7443"`
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Sprintf("port %s of %s: want a number from 0 to 65535", Quote(port), Quote(address))
	}
	if host == "" {
		return ""
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Sprintf("host %s of %s: want an IP address, or nothing for all addresses", Quote(host), Quote(address))
	}
	return ""
}
