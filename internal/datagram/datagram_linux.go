package datagram

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wantedBuffer is what the kernel may hold for a socket in each direction: a
// burst of some ten thousand small packets, while the reader is busy elsewhere.
const wantedBuffer = 8 << 20

// A message is struct mmsghdr of recvmmsg(2).
type message struct {
	head unix.Msghdr
	n    uint32
}

// batchSystem is what the kernel reads and writes: one entry per packet, made
// once, which point into each other and into the batch's buffer.
type batchSystem struct {
	messages []message
	vectors  []unix.Iovec
	names    []unix.RawSockaddrInet6 // large enough for IPv4 as well
}

func (s *batchSystem) init(b *Batch, count int) {
	s.messages = make([]message, count)
	s.vectors = make([]unix.Iovec, count)
	s.names = make([]unix.RawSockaddrInet6, count)
	for i := range count {
		s.vectors[i].Base = &b.buffer[i*b.size]
		h := &s.messages[i].head
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
	}
}

// system is the socket. Its functions are made once, since a closure for each
// call would be an allocation.
type system struct {
	raw       syscall.RawConn
	only4     bool // an AF_INET socket: addresses have that form
	reading   transfer
	writing   transfer
	readFunc  func(uintptr) bool
	writeFunc func(uintptr) bool
}

// A transfer is one system call's arguments and result.
type transfer struct {
	messages []message
	n        int
	errno    syscall.Errno
}

func (t *transfer) call(trap uintptr, fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&t.messages[0])), uintptr(len(t.messages)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false // the runtime waits until the socket is ready
		}
		t.n, t.errno = int(n), errno
		return true
	}
}

func (s *system) init(udp *net.UDPConn) (err error) {
	if s.raw, err = udp.SyscallConn(); err != nil {
		return err
	}
	s.readFunc = func(fd uintptr) bool { return s.reading.call(unix.SYS_RECVMMSG, fd) }
	s.writeFunc = func(fd uintptr) bool { return s.writing.call(unix.SYS_SENDMMSG, fd) }
	var domain int
	control := s.raw.Control(func(fd uintptr) {
		domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		// The forced kind passes the system's limit where we may; else as much as allowed.
		for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, wantedBuffer)
		}
	})
	s.only4 = domain == unix.AF_INET
	if err == nil {
		err = control
	}
	return err
}

func (s *system) read(_ *net.UDPConn, b *Batch) error {
	m := b.sys.messages
	for i := range m {
		b.sys.vectors[i].SetLen(b.size)
		m[i].head.Namelen = unix.SizeofSockaddrInet6
	}
	for b.count == 0 {
		s.reading = transfer{messages: m}
		if err := s.raw.Read(s.readFunc); err != nil {
			return err
		}
		if s.reading.errno != 0 {
			continue // an earlier packet of ours was refused somewhere (ICMP): nothing to read
		}
		for i := range s.reading.n {
			b.lengths[i] = int(m[i].n)
			b.peers[i] = parseName(&b.sys.names[i])
		}
		b.count = s.reading.n
	}
	runtime.KeepAlive(b)
	return nil
}

func (s *system) write(_ *net.UDPConn, b *Batch) (lost int, err error) {
	m := b.sys.messages[:b.count]
	for i := range m {
		b.sys.vectors[i].SetLen(b.lengths[i])
		m[i].head.Namelen = s.putName(&b.sys.names[i], b.peers[i])
	}
	for len(m) > 0 {
		s.writing = transfer{messages: m}
		if err := s.raw.Write(s.writeFunc); err != nil {
			return lost + len(m), err
		}
		if s.writing.errno != 0 || s.writing.n == 0 {
			lost, m = lost+1, m[1:] // the first one is what the error is about
			continue
		}
		m = m[s.writing.n:]
	}
	runtime.KeepAlive(b)
	return lost, nil
}

// parseName reads a socket address, whose port is in network order.
func parseName(n *unix.RawSockaddrInet6) netip.AddrPort {
	if n.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), ntohs(&four.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), ntohs(&n.Port))
}

// putName writes a socket address and returns its length. An IPv6 address on an
// IPv4 socket comes out as one that the kernel refuses.
func (s *system) putName(n *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	if s.only4 {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		*four = unix.RawSockaddrInet4{Family: unix.AF_INET}
		if ip := a.Addr().Unmap(); ip.Is4() {
			four.Addr = ip.As4()
		} else {
			four.Family = unix.AF_INET6
		}
		htons(&four.Port, a.Port())
		return unix.SizeofSockaddrInet4
	}
	*n = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	htons(&n.Port, a.Port())
	return unix.SizeofSockaddrInet6
}

func ntohs(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }

func htons(p *uint16, v uint16) { binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], v) }
