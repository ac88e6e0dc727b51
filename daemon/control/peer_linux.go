package control

import (
	"encoding/binary"
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups bounds the groups that are read of one peer. Who is in more, and in
// the group keyhole after these, is refused; the kernel's own bound is 65,536.
const maxGroups = 1024

// peerOf asks the kernel who connected.
func peerOf(conn net.Conn) (Peer, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("not a Unix socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var fault error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, fault = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); fault == nil {
			p = Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Groups: peerGroups(fd)}
		}
	})
	return p, errors.Join(err, fault)
}

// peerGroups reads SO_PEERGROUPS, for which x/sys has no function. Kernels
// before 4.13 do not know it: then only the primary group counts.
func peerGroups(fd uintptr) []uint32 {
	buf := make([]byte, 4*maxGroups)
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || int(size) > len(buf) {
		return nil
	}
	groups := make([]uint32, 0, size/4)
	for b := buf[:size]; len(b) >= 4; b = b[4:] {
		groups = append(groups, binary.NativeEndian.Uint32(b))
	}
	return groups
}
