package netstate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoInterface says that the kernel did not tell the receiving interface.
var errNoInterface = errors.New("the kernel does not tell the receiving interface")

// Receiving returns the index of the interface by which the handshake of an
// accepted TCP connection came in. The kernel notes it on the new socket as the
// interface for multicast (tcp_v4_syn_recv_sock, tcp_v6_syn_recv_sock), which a
// TCP socket has no other use for; IPv6 sockets, dual-stack ones included, give
// it back as IPV6_MULTICAST_IF, IPv4 ones as IP_PKTINFO in IP_PKTOPTIONS.
func Receiving(c net.Conn) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, errNoInterface
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var index int
	var inner error
	if err := raw.Control(func(fd uintptr) { index, inner = receiving(int(fd)) }); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, fmt.Errorf("receiving interface: %w", inner)
	}
	if index == 0 {
		return 0, errNoInterface
	}
	return index, nil
}

func receiving(fd int) (int, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, err
	}
	if domain == unix.AF_INET6 {
		return unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF)
	}
	if domain != unix.AF_INET {
		return 0, errNoInterface
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
		return 0, err
	}
	// The package unix has no getter for bytes that contain zeros.
	var options [128]byte // three times what one IP_PKTINFO takes
	size := uint32(len(options))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, unix.IP_PKTOPTIONS,
		uintptr(unsafe.Pointer(&options)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return 0, errno
	}
	return pktInfo(options[:min(int(size), len(options))])
}

// pktInfo finds the interface index in the control messages of IP_PKTOPTIONS.
func pktInfo(options []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(options)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			return int(binary.NativeEndian.Uint32(m.Data)), nil
		}
	}
	return 0, errNoInterface
}
