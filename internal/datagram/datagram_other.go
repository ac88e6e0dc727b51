//go:build !linux

package datagram

import (
	"errors"
	"net"
	"net/netip"
)

type batchSystem struct{}

func (*batchSystem) init(*Batch, int) {}

type system struct{}

func (*system) init(*net.UDPConn) error { return nil }

func (*system) read(udp *net.UDPConn, b *Batch) error {
	for {
		n, from, err := udp.ReadFromUDPAddrPort(b.slot(0))
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil && n == 0 {
			continue // an earlier packet of ours was refused somewhere (ICMP)
		}
		b.lengths[0], b.count = n, 1
		b.peers[0] = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		return nil
	}
}

func (*system) write(udp *net.UDPConn, b *Batch) (lost int, err error) {
	for i := range b.count {
		_, err := udp.WriteToUDPAddrPort(b.Packet(i), b.peers[i])
		if errors.Is(err, net.ErrClosed) {
			return lost + b.count - i, err
		}
		if err != nil {
			lost++
		}
	}
	return lost, nil
}
