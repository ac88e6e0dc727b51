package gate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits of the files.
const (
	maxDenyBytes    = 32 << 20 // 400,000 keys
	maxCountryBytes = 64 << 20 // the whole Internet in ranges of countries is 25 MB
	maxLineBytes    = 256
)

// denied is a file of who is kept out. One word a line, what follows # is for people:
//
//	client FINGERPRINT      the key of a client: 64 hexadecimal digits
//	device ID               a device, for every client
//	address 192.0.2.0/24    a network, or one address
//	country XX              two letters (ISO 3166-1); ?? is what the country file does not have
type denied struct {
	client  map[identity.Fingerprint]bool
	device  map[identity.ID]bool
	address ranges[struct{}]
	country map[country]bool
}

// A country is two capital letters, or unknownCountry.
type country [2]byte

var unknownCountry = country{'?', '?'}

func (c country) String() string { return string(c[:]) }

func parseCountry(text string) (country, error) {
	if len(text) == 2 {
		c := country([]byte(strings.ToUpper(text)))
		if c == unknownCountry || c[0] >= 'A' && c[0] <= 'Z' && c[1] >= 'A' && c[1] <= 'Z' {
			return c, nil
		}
	}
	return country{}, fmt.Errorf("%.20q is no country: want two letters", text)
}

func parseDenied(data []byte) (*denied, error) {
	d := &denied{client: map[identity.Fingerprint]bool{}, device: map[identity.ID]bool{}, country: map[country]bool{}}
	err := lines(data, func(text string) error {
		kind, value, ok := strings.Cut(text, " ")
		if value = strings.TrimSpace(value); !ok || value == "" {
			return errors.New("want a kind and a value, such as: address 192.0.2.0/24")
		}
		return d.add(kind, value)
	})
	if err != nil {
		return nil, err
	}
	d.address = d.address.joined()
	return d, nil
}

func (d *denied) add(kind, value string) error {
	switch kind {
	case "client":
		f, err := identity.ParseFingerprint(value)
		d.client[f] = true
		return err
	case "device":
		id, err := identity.ParseID(value)
		d.device[id] = true
		return err
	case "address":
		from, to, err := network(value)
		d.address = append(d.address, span[struct{}]{from: from, to: to})
		return err
	case "country":
		c, err := parseCountry(value)
		d.country[c] = true
		return err
	}
	return fmt.Errorf("%.20q is not known: want client, device, address or country", kind)
}

// countries is a country file: lines "NETWORK,XX" or "FIRST,LAST,XX", as the free
// tables have them, in any order; quotes around a field are skipped. Networks must
// not overlap.
type countries struct{ ranges[country] }

func parseCountries(data []byte) (*countries, error) {
	c := &countries{}
	err := lines(data, func(text string) error {
		fields := strings.Split(strings.ReplaceAll(text, `"`, ""), ",")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		where, err := parseCountry(fields[len(fields)-1])
		if err != nil {
			return err
		}
		var from, to netip.Addr
		switch len(fields) {
		case 2:
			from, to, err = network(fields[0])
		case 3:
			from, to, err = between(fields[0], fields[1])
		default:
			err = errors.New("want NETWORK,COUNTRY or FIRST,LAST,COUNTRY")
		}
		c.ranges = append(c.ranges, span[country]{from, to, where})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.sort()
	for i := 1; i < len(c.ranges); i++ {
		if before, this := c.ranges[i-1], c.ranges[i]; !before.to.Less(this.from) {
			return nil, fmt.Errorf("%s to %s and %s to %s overlap", before.from, before.to, this.from, this.to)
		}
	}
	return c, nil
}

func (c *countries) of(a netip.Addr) country {
	if s := c.find(a); s != nil {
		return s.of
	}
	return unknownCountry
}

// lines calls parse for each line that says something.
func lines(data []byte, parse func(string) error) error {
	number := 0
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte("\n"))
		number++
		if len(line) > maxLineBytes {
			return fmt.Errorf("line %d: longer than %d bytes", number, maxLineBytes)
		}
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := parse(text); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// network reads "192.0.2.0/24" or one address as its first and last address.
func network(text string) (from, to netip.Addr, err error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return from, to, fmt.Errorf("%.60q is neither a network nor an address", text)
		}
		return a, a, nil
	}
	if p != p.Masked() || p.Addr().Is4In6() {
		return from, to, fmt.Errorf("%.60q is no network: its first address is %s", text, p.Masked().Addr())
	}
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(last); bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	to, _ = netip.AddrFromSlice(last)
	return p.Addr(), to, nil
}

func between(first, last string) (from, to netip.Addr, err error) {
	from, err = netip.ParseAddr(first)
	if err == nil {
		to, err = netip.ParseAddr(last)
	}
	if err != nil || from.Is4() != to.Is4() || to.Less(from) || from.Zone()+to.Zone() != "" || from.Is4In6() || to.Is4In6() {
		return from, to, fmt.Errorf("%.60q to %.60q is no range of addresses", first, last)
	}
	return from, to, nil
}

// A span is what is known of all addresses from one to another, both included.
type span[T any] struct {
	from, to netip.Addr
	of       T
}

// ranges are spans, in order, none reaching into the next.
type ranges[T any] []span[T]

func (r ranges[T]) sort() {
	slices.SortFunc(r, func(a, b span[T]) int { return cmp.Or(a.from.Compare(b.from), b.to.Compare(a.to)) })
}

// joined sorts, and makes one of those that overlap.
func (r ranges[T]) joined() ranges[T] {
	r.sort()
	var out ranges[T]
	for _, s := range r {
		if n := len(out); n > 0 && !out[n-1].to.Less(s.from) {
			if out[n-1].to.Less(s.to) {
				out[n-1].to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// find is the span that an address is in, or nil.
func (r ranges[T]) find(a netip.Addr) *span[T] {
	i, exact := slices.BinarySearchFunc(r, a, func(s span[T], a netip.Addr) int { return s.from.Compare(a) })
	if !exact {
		i--
	}
	if i < 0 || r[i].to.Less(a) || !a.IsValid() {
		return nil
	}
	return &r[i]
}

func (r ranges[T]) has(a netip.Addr) bool { return r.find(a) != nil }
