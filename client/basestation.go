package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A Basestation is where a device can be asked for from beyond its network. The
// device itself tells its paired clients; the zero value is a device that has none,
// or has not told. It vouches for nothing: whoever is met through it must have the
// pinned key.
type Basestation struct {
	Addresses []string `json:"addresses"`          // HOST:PORT
	Keys      []string `json:"keys"`               // one or two root keys, as attach.FormatRootKey writes them
	Presence  []byte   `json:"presence,omitempty"` // lets the basestation tell since when the device is away
	Floors    []uint64 `json:"floors,omitempty"`   // of each key: certificates below are refused; only rises
}

// Limits of what a device says of its basestation.
const (
	maxBasestations  = 8
	maxRootKeys      = 2   // the one in use and the one that replaces it
	maxPresenceBytes = 256 // what fits into an introduction beside a key
)

// IsZero tells that none is known.
func (b Basestation) IsZero() bool { return len(b.Addresses) == 0 }

// String names its first address.
func (b Basestation) String() string {
	if b.IsZero() {
		return "no basestation"
	}
	return "basestation " + b.Addresses[0]
}

func (b Basestation) check() error {
	switch {
	case b.IsZero() && len(b.Keys) == 0 && len(b.Presence) == 0 && len(b.Floors) == 0:
		return nil
	case b.IsZero() || len(b.Addresses) > maxBasestations:
		return fmt.Errorf("a basestation has 1 to %d addresses, not %d", maxBasestations, len(b.Addresses))
	case len(b.Keys) == 0 || len(b.Keys) > maxRootKeys || len(b.Floors) > len(b.Keys):
		return fmt.Errorf("a basestation has 1 to %d root keys, not %d", maxRootKeys, len(b.Keys))
	case len(b.Presence) > maxPresenceBytes:
		return fmt.Errorf("a presence pass is at most %d bytes, not %d", maxPresenceBytes, len(b.Presence))
	}
	for i, a := range b.Addresses {
		if _, err := parseAddress(a); err != nil || slices.Contains(b.Addresses[:i], a) {
			return fmt.Errorf("address %q of the basestation: %w", clip(a), ErrNotAddress)
		}
	}
	for i, k := range b.Keys {
		if _, err := attach.ParseRootKey(k); err != nil {
			return err
		}
		if slices.Contains(b.Keys[:i], k) {
			return errors.New("a root key is there twice")
		}
	}
	return nil
}

func (b Basestation) equal(o Basestation) bool {
	return slices.Equal(b.Addresses, o.Addresses) && slices.Equal(b.Keys, o.Keys) &&
		slices.Equal(b.Presence, o.Presence) && slices.Equal(b.Floors, o.Floors)
}

// roots are the root keys with the floors known of them.
func (b Basestation) roots() []attach.Root {
	var roots []attach.Root
	for i, text := range b.Keys {
		k, err := attach.ParseRootKey(text)
		if err != nil {
			continue // the book was checked
		}
		r := attach.Root{Key: k}
		if i < len(b.Floors) {
			r.Floor = b.Floors[i]
		}
		roots = append(roots, r)
	}
	return roots
}

// raised returns b with the floors of roots where they are higher, and whether any was.
func (b Basestation) raised(roots []attach.Root) (Basestation, bool) {
	floors := make([]uint64, len(b.Keys))
	copy(floors, b.Floors)
	changed := false
	for i, text := range b.Keys {
		for _, r := range roots {
			if attach.FormatRootKey(r.Key) == text && r.Floor > floors[i] {
				floors[i], changed = r.Floor, true
			}
		}
	}
	if changed {
		b.Floors = floors
	}
	return b, changed
}

// toldBasestation is what a device has told, without what cannot be used. Near says
// that the device itself is on this machine: only then may its basestation be
// there too, since a client must not be sent to its own ports by others.
func toldBasestation(told *api.Basestation, known Basestation, near bool) (b Basestation, err error) {
	if told == nil {
		return Basestation{}, nil
	}
	if len(told.Addresses) > maxBasestations || len(told.Keys) > maxRootKeys {
		return known, fmt.Errorf("the device names %d basestations and %d keys: at most %d and %d are taken",
			len(told.Addresses), len(told.Keys), maxBasestations, maxRootKeys)
	}
	for _, a := range told.Addresses {
		if usableBasestation(a, near) && !slices.Contains(b.Addresses, a) {
			b.Addresses = append(b.Addresses, a)
		}
	}
	if len(b.Addresses) == 0 {
		return known, errors.New("the device names a basestation without an address that can be used")
	}
	b.Keys, b.Presence = told.Keys, told.Presence
	if err := b.check(); err != nil {
		return known, fmt.Errorf("what the device says of its basestation: %w", err)
	}
	b, _ = b.raised(known.roots())
	return b, nil
}

// usableBasestation tells whether an address may be asked. Names are looked at
// when they are resolved.
func usableBasestation(address string, near bool) bool {
	if _, err := parseAddress(address); err != nil {
		return false
	}
	host, _, _ := net.SplitHostPort(address) // parsed a moment ago
	a, ok := parseIP(host)
	return !ok || usableAddr(a, near)
}

func usableAddr(a netip.Addr, near bool) bool {
	a = a.Unmap()
	return !a.IsUnspecified() && !a.IsMulticast() && (near || !a.IsLoopback()) && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
