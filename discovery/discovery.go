// Package discovery announces a device on the local network and finds devices
// there, by multicast DNS and DNS service discovery (RFC 6762, RFC 6763). The
// daemon runs an Announcer; the client calls Browse.
//
// What it tells is a hint, never a proof: anybody on the network can announce
// anything. Whoever uses an address found here must check the device's key, and
// a device that lost power stays listed until its records expire.
//
// Services are announced with grandcat/zeroconf. What that leaves out is
// answered here: questions for the addresses of our host name, questions in
// another case, questions of plain DNS resolvers and those sent to our own
// address.
package discovery

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Record is what a device tells its local network. The zero value tells
// nothing.
type Record struct {
	ID      identity.ID
	Name    string   // for people; characters but A-Z a-z 0-9, hyphen and space become hyphens
	Product string   // at most maxText bytes are told
	Port    uint16   // of TCP and UDP; 0 tells nothing
	Pair    []string // modes of pairing open now; nil while no window is open
}

func (r Record) equal(o Record) bool {
	return r.ID == o.ID && r.Name == o.Name && r.Product == o.Product && r.Port == o.Port && slices.Equal(r.Pair, o.Pair)
}

func (r Record) empty() bool { return r.ID == "" || r.Port == 0 }

// Found is a device that was seen on the network. Its texts are a stranger's:
// they are cut to length and hold printable characters only, but nothing vouches
// for them.
type Found struct {
	ID        identity.ID
	Name      string           // without the characters of the id that the announcement adds
	Product   string           // may be empty
	Addresses []netip.AddrPort // at most maxAddresses; link-local ones with their zone; likely ones first
	Pair      []string         // modes open for pairing; nil: none
	Interface string           // by which it was seen first
}

func (f Found) equal(o Found) bool {
	return f.ID == o.ID && f.Name == o.Name && f.Product == o.Product && f.Interface == o.Interface &&
		slices.Equal(f.Addresses, o.Addresses) && slices.Equal(f.Pair, o.Pair)
}

// Figures of the wire.
const (
	// ttl is how long neighbours remember what we tell, in seconds. RFC 6762 §10
	// asks for it for what depends on a host's address; we use it for all, so that
	// a device that lost power is not listed for more than an hour.
	ttl = 120

	// legacyTTL is the most that a plain DNS resolver may remember (RFC 6762 §6.7).
	legacyTTL = 10

	// maxLabel is the longest name between two dots (RFC 1035 §2.3.4).
	maxLabel = 63

	// maxText is how much of a text is told and believed: a TXT string holds 255
	// bytes with its key, and a list for people has no room for more than this.
	maxText = 64

	// idSuffix is how much of the id makes an instance name unique. Two devices
	// with one name would otherwise fight for it: zeroconf renames nobody.
	idSuffix = 6
)

const (
	domain      = "local."
	tcpService  = "_keyhole._tcp"
	udpService  = "_keyhole._udp"
	serviceEnum = "_services._dns-sd._udp." + domain
)

var services = []string{tcpService, udpService}

func serviceName(service string) string { return service + "." + domain }

// hostName is the name that our A and AAAA records have. It is our own and not
// the machine's: the machine's belongs to avahi or systemd-resolved, which would
// take our goodbye for theirs.
func (r Record) hostName() string { return string(r.ID) + "." + domain }

// instance is the name of the device in lists, as `<name>-<first 6 of id>`.
func (r Record) instance() string {
	suffix := "-" + string(r.ID)[:min(idSuffix, len(r.ID))]
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ' ' {
			return c
		}
		return '-'
	}, r.Name)
	name = strings.Trim(collapse(name), "- ")
	if name == "" {
		name = "keyhole"
	}
	return strings.TrimRight(name[:min(len(name), maxLabel-len(suffix))], "- ") + suffix
}

// collapse makes one of several hyphens or spaces in a row.
func collapse(s string) string {
	var b strings.Builder
	var last rune
	for _, c := range s {
		if (c == '-' || c == ' ') && c == last {
			continue
		}
		b.WriteRune(c)
		last = c
	}
	return b.String()
}

// escapedInstance is instance as zeroconf and miekg/dns write names: a space
// unescaped browses, but its SRV record is never answered.
func (r Record) escapedInstance() string { return strings.ReplaceAll(r.instance(), " ", `\ `) }

func (r Record) instanceName(service string) string {
	return r.escapedInstance() + "." + serviceName(service)
}

// text is the TXT record (RFC 6763 §6).
func (r Record) text() []string {
	txt := []string{"v=1", "id=" + string(r.ID), "product=" + cleanText(r.Product)}
	if len(r.Pair) > 0 {
		txt = append(txt, "pair="+strings.Join(cleanModes(r.Pair), ","))
	}
	return txt
}
