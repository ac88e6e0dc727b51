package attach

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"time"
)

// CookieSlot is how long one cookie secret is in use; a cookie is good in its
// slot and in the next, so for half an hour at least. Long enough that a client
// that comes back saves a round trip; short, because an address may get another
// owner, who could then be sent one small packet per spoofed one.
const CookieSlot = 30 * time.Minute

// Cookies makes and checks cookies without remembering one. A cookie is bound to
// an IP address and not to a port: a NAT may give another port towards the node
// than towards the controller, and RFC 9000 §8.1.3 advises the same for QUIC.
// Nodes of one fleet share the secrets, so that a controller can make a cookie
// for the node. The zero value accepts nothing; call Rotate first.
type Cookies struct {
	secrets [2]Secret // by slot modulo 2
	slot    byte
	known   int // how many secrets are set: 0, 1, 2
}

// Rotate begins a slot with a new secret; the one before stays good. Slots are
// counted upwards and wrap.
func (c *Cookies) Rotate(slot byte, secret Secret) {
	if c.known < 2 {
		c.known++
	}
	if slot != c.slot+1 {
		c.known = 1 // a gap: the secret of the slot before is not here
	}
	c.slot = slot
	c.secrets[slot%2] = secret
}

func (c *Cookies) make(slot byte, ip netip.Addr) (k cookie) {
	mac := hmac.New(sha256.New, c.secrets[slot%2][:])
	address := ip.As16()
	mac.Write([]byte("keyhole/1 cookie\x00"))
	mac.Write([]byte{slot})
	mac.Write(address[:])
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	k[0] = slot
	copy(k[1:], sum[:])
	return k
}

func (c *Cookies) issue(ip netip.Addr) cookie { return c.make(c.slot, ip) }

func (c *Cookies) check(k cookie, ip netip.Addr) bool {
	age := c.slot - k[0]
	if int(age) >= c.known || age > 1 {
		return false
	}
	want := c.make(k[0], ip)
	return hmac.Equal(want[:], k[:])
}
