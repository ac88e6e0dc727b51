// Package datagram reads and writes UDP packets in batches: one system call for
// up to a whole batch, and no allocation for any packet.
//
// The basestation uses it, which hears from a million devices on one socket. It
// knows nothing of what is inside a packet. It does not choose the local address
// of an answer: on a machine with several addresses of one family that face its
// peers, listen on one of them and not on the wildcard.
//
// On Linux a batch is one recvmmsg or sendmmsg; elsewhere the same functions
// handle one packet at a time.
package datagram

import (
	"net"
	"net/netip"
)

// A Conn is a UDP socket. One goroutine may read while another writes.
type Conn struct {
	udp *net.UDPConn
	sys system
}

// New wraps a socket that is bound and not connected. The socket belongs to
// the Conn from then on.
func New(udp *net.UDPConn) (*Conn, error) {
	c := &Conn{udp: udp}
	if err := c.sys.init(udp); err != nil {
		return nil, err
	}
	return c, nil
}

// LocalAddr is the address that the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort {
	a := c.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Close ends a Read that waits.
func (c *Conn) Close() error { return c.udp.Close() }

// Read fills b with at least one packet, and with all that wait as far as there
// is room. A packet that is longer than b's size is cut to it. It returns an
// error only if the socket cannot be used any more.
func (c *Conn) Read(b *Batch) error {
	b.count = 0
	return c.sys.read(c.udp, b)
}

// Write sends the packets of b in order and empties it. It waits while the
// socket's buffer is full. Packets that the kernel refuses, because there is no
// route for example, are lost like packets on the way: lost says how many.
func (c *Conn) Write(b *Batch) (lost int, err error) {
	if b.count == 0 {
		return 0, nil
	}
	lost, err = c.sys.write(c.udp, b)
	b.count = 0
	return lost, err
}

// A Batch is room for some packets, used over and over.
type Batch struct {
	size    int
	count   int
	lengths []int
	peers   []netip.AddrPort
	buffer  []byte
	sys     batchSystem
}

// NewBatch returns room for count packets of up to size bytes each.
func NewBatch(count, size int) *Batch {
	b := &Batch{size: size, lengths: make([]int, count), peers: make([]netip.AddrPort, count), buffer: make([]byte, count*size)}
	b.sys.init(b, count)
	return b
}

// Len is how many packets there are.
func (b *Batch) Len() int { return b.count }

// Full reports whether there is no room for one more.
func (b *Batch) Full() bool { return b.count == len(b.lengths) }

// Packet returns the bytes of a packet, good until the batch is used again.
func (b *Batch) Packet(i int) []byte { return b.slot(i)[:b.lengths[i]] }

// Peer returns where a packet came from or goes to. An IPv4 address is never
// in its IPv6 form, and there is no zone.
func (b *Batch) Peer(i int) netip.AddrPort { return b.peers[i] }

// Add copies a packet for to. It reports whether there was room for it.
func (b *Batch) Add(to netip.AddrPort, packet []byte) bool {
	if b.Full() || len(packet) > b.size {
		return false
	}
	b.peers[b.count] = to
	b.lengths[b.count] = copy(b.slot(b.count), packet)
	b.count++
	return true
}

func (b *Batch) slot(i int) []byte { return b.buffer[i*b.size : (i+1)*b.size : (i+1)*b.size] }
