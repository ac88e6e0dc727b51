package discovery

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/keyholed/keyhole/internal/netstate"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Bounds on what a network full of strangers can make a browser keep.
const (
	maxDevices   = 256 // devices, and instances and hosts per kind of service
	maxAddresses = 16  // of one device
	maxMissing   = 16  // questions for missing parts at a time
	maxLife      = time.Hour
)

// A key names a thing as seen on one interface: names and addresses of another
// link mean nothing there.
type key struct {
	link int
	name string // lower case
}

type instance struct {
	on      netstate.Interface
	label   string // as announced, escaped
	service string
	target  string // host name, lower case; "" until the SRV record came
	port    uint16
	txt     []string
	hasTXT  bool
	expires time.Time
}

type hostAddresses struct {
	list    []netip.Addr
	expires time.Time
}

// A harvest puts devices together from the records of many packets.
type harvest struct {
	instances map[key]*instance
	hosts     map[key]*hostAddresses
	told      map[identity.ID]Found
}

func newHarvest() *harvest {
	return &harvest{instances: map[key]*instance{}, hosts: map[key]*hostAddresses{}, told: map[identity.ID]Found{}}
}

// add takes what a packet says.
func (h *harvest) add(s sighting, now time.Time) {
	records := slices.Concat(s.msg.Answer, s.msg.Ns, s.msg.Extra)
	h.flush(records, s.on)
	for _, rr := range records {
		h.addService(rr, s.on, now)
	}
	for _, rr := range records {
		h.addAddress(rr, s, now)
	}
}

// life is how long a record may be believed.
func life(rr dns.RR) time.Duration {
	return min(time.Duration(rr.Header().Ttl)*time.Second, maxLife)
}

func (h *harvest) addService(rr dns.RR, on netstate.Interface, now time.Time) {
	name := rr.Header().Name
	if ptr, ok := rr.(*dns.PTR); ok {
		if i, k := h.instance(ptr.Ptr, on); i != nil && endsFold(ptr.Ptr, "."+ptr.Hdr.Name) {
			h.keep(k, i, rr, now)
		}
		return
	}
	switch rr := rr.(type) {
	case *dns.SRV:
		if i, k := h.instance(name, on); i != nil {
			i.target, i.port = strings.ToLower(rr.Target), rr.Port
			h.keep(k, i, rr, now)
		}
	case *dns.TXT:
		if i, k := h.instance(name, on); i != nil {
			i.txt, i.hasTXT = rr.Txt[:min(len(rr.Txt), maxTXTStrings)], true
			h.keep(k, i, rr, now)
		}
	}
}

// instance returns what is known of an instance of ours, or a new one that is
// not kept yet; nil for other names and when there are too many.
func (h *harvest) instance(name string, on netstate.Interface) (*instance, key) {
	for _, service := range services {
		suffix := "." + serviceName(service)
		if !endsFold(name, suffix) {
			continue
		}
		k := key{on.Index, strings.ToLower(name)}
		if i, ok := h.instances[k]; ok {
			return i, k
		}
		if len(h.instances) >= maxDevices*len(services) {
			return nil, k
		}
		return &instance{on: on, label: name[:len(name)-len(suffix)], service: service}, k
	}
	return nil, key{}
}

// keep remembers an instance for as long as its record lives. A life of 0 is a
// goodbye.
func (h *harvest) keep(k key, i *instance, rr dns.RR, now time.Time) {
	if rr.Header().Ttl == 0 {
		delete(h.instances, k)
		return
	}
	i.expires = now.Add(life(rr))
	h.instances[k] = i
}

// flush forgets the addresses of hosts that list them anew (RFC 6762 §10.2).
func (h *harvest) flush(records []dns.RR, on netstate.Interface) {
	for _, rr := range records {
		_, is4 := rr.(*dns.A)
		_, is6 := rr.(*dns.AAAA)
		if (is4 || is6) && rr.Header().Class&cacheFlush != 0 {
			host, ok := h.hosts[key{on.Index, strings.ToLower(rr.Header().Name)}]
			if ok {
				host.list = slices.DeleteFunc(host.list, func(a netip.Addr) bool { return a.Is4() == is4 })
			}
		}
	}
}

// addAddress takes an A or AAAA record of a host that some instance names.
func (h *harvest) addAddress(rr dns.RR, s sighting, now time.Time) {
	a, ok := addressIn(rr, s.on)
	if !ok || rr.Header().Ttl == 0 {
		return
	}
	name := strings.ToLower(rr.Header().Name)
	if !h.wanted(name, s.on) {
		return
	}
	k := key{s.on.Index, name}
	host := h.hosts[k]
	if host == nil {
		if len(h.hosts) >= maxDevices*len(services) {
			return
		}
		host = &hostAddresses{}
		h.hosts[k] = host
	}
	host.expires = now.Add(life(rr))
	if slices.Contains(host.list, a) {
		return
	}
	// The address that the packet came from is a likelier one than those that its
	// sender only names, so it is tried first and never pushed out by them.
	if a.WithZone("") == s.source.Addr().WithZone("") {
		host.list = slices.Insert(host.list, 0, a)
	} else {
		host.list = append(host.list, a)
	}
	host.list = host.list[:min(len(host.list), maxAddresses)]
}

func (h *harvest) wanted(host string, on netstate.Interface) bool {
	for k, i := range h.instances {
		if k.link == on.Index && i.target == host {
			return true
		}
	}
	return false
}

// addressIn returns the address of a record if a neighbour can have it.
// Link-local ones get the zone without which they mean nothing.
func addressIn(rr dns.RR, on netstate.Interface) (netip.Addr, bool) {
	var a netip.Addr
	switch rr := rr.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA.To16())
	}
	if !a.IsValid() || a.Is4In6() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, false
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(on.Name)
	}
	return a, true
}

// missing returns questions for what instances still lack, and forgets what
// nobody has confirmed within its life.
func (h *harvest) missing(now time.Time) []dns.Question {
	var list []dns.Question
	add := func(name string, types ...uint16) {
		for _, t := range types {
			if q := (dns.Question{Name: name, Qtype: t, Qclass: dns.ClassINET}); len(list) < maxMissing && !slices.Contains(list, q) {
				list = append(list, q)
			}
		}
	}
	for k, i := range h.instances {
		switch {
		case now.After(i.expires):
			delete(h.instances, k)
		case i.target == "" || !i.hasTXT:
			add(i.label+"."+serviceName(i.service), dns.TypeSRV, dns.TypeTXT)
		case h.hosts[key{k.link, i.target}] == nil:
			add(i.target, dns.TypeA, dns.TypeAAAA)
		}
	}
	for k, host := range h.hosts {
		if now.After(host.expires) {
			delete(h.hosts, k)
		}
	}
	return list
}

// news returns the devices that are complete and were not told so before.
func (h *harvest) news(now time.Time) []Found {
	devices := h.devices(now)
	for id := range h.told {
		if _, ok := devices[id]; !ok {
			delete(h.told, id) // gone: news when it is back
		}
	}
	var news []Found
	for id, f := range devices {
		if old, ok := h.told[id]; ok && old.equal(f) {
			continue
		}
		h.told[id] = f
		news = append(news, f)
	}
	slices.SortFunc(news, func(a, b Found) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return news
}

// devices puts instances of both services and all interfaces together. What
// they tell of name and pairing is taken from the first in order of interface.
func (h *harvest) devices(now time.Time) map[identity.ID]Found {
	keys := make([]key, 0, len(h.instances))
	for k := range h.instances {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.link != b.link {
			return a.link - b.link
		}
		return strings.Compare(a.name, b.name)
	})
	devices := map[identity.ID]Found{}
	for _, k := range keys {
		i := h.instances[k]
		host := h.hosts[key{k.link, i.target}]
		if i.port == 0 || !i.hasTXT || host == nil || len(host.list) == 0 || now.After(i.expires) {
			continue
		}
		f, ok := parseText(i.txt)
		if !ok {
			continue
		}
		if known, ok := devices[f.ID]; ok {
			f = known
		} else if len(devices) >= maxDevices {
			continue
		} else {
			f.Name, f.Interface = nameOf(i.label, f.ID), i.on.Name
		}
		for _, a := range host.list {
			to := netip.AddrPortFrom(a, i.port)
			if len(f.Addresses) < maxAddresses && !slices.Contains(f.Addresses, to) {
				f.Addresses = append(f.Addresses, to)
			}
		}
		devices[f.ID] = f
	}
	return devices
}
