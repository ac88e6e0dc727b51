package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// target is where a service listens, in the two words net.Dial wants.
type target struct {
	network string // "tcp" or "unix"
	address string // "host:port" or a path
}

const (
	// maxUnixPath is sun_path of the kernel, less its zero (unix(7)).
	maxUnixPath = 107
	// maxHostBytes is the longest host name (RFC 1035 §2.3.4, in text).
	maxHostBytes = 253
	maxLabel     = 63
)

// parseTarget takes "host:port", "host" where the type has a port, an IPv6
// address in brackets or bare, and "unix:/path". A host name is checked for
// form only; it is resolved each time the service is dialled.
func parseTarget(address string, port uint16) (target, error) {
	if address == "" {
		return target{}, errors.New("is empty: want HOST:PORT or unix:/PATH")
	}
	if file, ok := strings.CutPrefix(address, "unix:"); ok {
		return parseUnix(file)
	}
	host, digits, err := splitTarget(address)
	if err != nil {
		return target{}, err
	}
	switch {
	case digits != "":
		if port, err = parsePort(digits); err != nil {
			return target{}, err
		}
	case port == 0:
		return target{}, fmt.Errorf("%.80q names no port, and services of this type have no usual one", address)
	}
	if err := checkHost(host); err != nil {
		return target{}, err
	}
	return target{"tcp", net.JoinHostPort(host, strconv.Itoa(int(port)))}, nil
}

func parseUnix(file string) (target, error) {
	switch {
	case !strings.HasPrefix(file, "/"):
		return target{}, fmt.Errorf("%.80q is not an absolute path: want unix:/PATH", file)
	case len(file) > maxUnixPath:
		return target{}, fmt.Errorf("the path of a Unix socket has at most %d bytes, this one has %d", maxUnixPath, len(file))
	case strings.ContainsRune(file, 0):
		return target{}, errors.New("a path has no zero bytes")
	case strings.HasSuffix(file, "/"):
		return target{}, fmt.Errorf("%q is a directory", file)
	}
	return target{"unix", path.Clean(file)}, nil
}

// splitTarget returns host and port digits, the latter "" when there are none.
func splitTarget(address string) (host, port string, err error) {
	if _, err := netip.ParseAddr(address); err == nil {
		return address, "", nil // an address without a port, IPv6 without brackets too
	}
	if inner, ok := strings.CutPrefix(address, "["); ok && strings.HasSuffix(inner, "]") {
		return inner[:len(inner)-1], "", nil
	}
	if !strings.Contains(address, ":") {
		return address, "", nil
	}
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("%.80q: want HOST:PORT, an IPv6 address in brackets", address)
	}
	if host == "" {
		return "", "", fmt.Errorf("%.80q names no host: write 127.0.0.1 for this machine", address)
	}
	if port == "" {
		return "", "", fmt.Errorf("%.80q ends in a colon: the port is missing", address)
	}
	return host, port, nil
}

// parsePort takes the decimal form alone: no sign, no leading zero, no service
// name, 1 to 65535.
func parsePort(digits string) (uint16, error) {
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || digits[0] < '1' || digits[0] > '9' {
		return 0, fmt.Errorf("%.20q is not a port: want 1 to 65535", digits)
	}
	return uint16(n), nil
}

func checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		switch {
		case addr.IsUnspecified():
			return fmt.Errorf("%s means every address and is none to connect to: write 127.0.0.1 or ::1", host)
		case addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return fmt.Errorf("%s is a group of machines, not one", host)
		}
		return nil
	}
	if len(host) > maxHostBytes {
		return fmt.Errorf("a host name has at most %d bytes, this one has %d", maxHostBytes, len(host))
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if !validLabel(label) {
			return fmt.Errorf("%.80q is neither an IP address nor a host name", host)
		}
	}
	// Resolvers read 127.1 and 0x7f000001 as addresses; whoever wrote them
	// made a mistake, and no host name ends so (RFC 3696 §2).
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("%.80q is not an IP address, and no host name ends in a number", host)
	}
	return nil
}

func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i] | 0x20 // lower case
		if (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
			return false
		}
	}
	return true
}
