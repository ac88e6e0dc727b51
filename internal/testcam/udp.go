package testcam

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// udpPair is the two sockets from which packets go to clients that asked for
// UDP: RTP on an even port, RTCP on the next (RFC 3550 §11).
type udpPair struct {
	rtp, rtcp *net.UDPConn

	mu    sync.Mutex
	alive map[netip.AddrPort]func() // called for every RTCP packet from there
}

// openUDPPair tries until two neighbouring ports are free.
func openUDPPair(addr netip.Addr) (*udpPair, error) {
	const tries = 50 // half of all ports are even; a taken neighbour is rare
	var last error
	for range tries {
		rtp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err != nil {
			return nil, err
		}
		port := rtp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if port%2 == 0 {
			rtcp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port+1)))
			if err == nil {
				return &udpPair{rtp: rtp, rtcp: rtcp, alive: make(map[netip.AddrPort]func())}, nil
			}
			last = err
		}
		rtp.Close()
	}
	return nil, fmt.Errorf("no pair of UDP ports on %v: %w", addr, last)
}

func (u *udpPair) ports() [2]uint16 {
	return [2]uint16{
		u.rtp.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
		u.rtcp.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
	}
}

// register asks for a call at every RTCP packet of a client; forget ends it.
func (u *udpPair) register(client netip.AddrPort, alive func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.alive[client] = alive
}

func (u *udpPair) forget(client netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.alive, client)
}

// drainRTP throws away what comes to the RTP port: players send there to open
// a way through their firewall.
func (u *udpPair) drainRTP() {
	var buf [64]byte
	for {
		if _, _, err := u.rtp.ReadFromUDPAddrPort(buf[:]); err != nil {
			return
		}
	}
}

// readRTCP keeps sessions alive whose clients report. What they report is of
// no use to a camera of one quality.
func (u *udpPair) readRTCP() {
	var buf [64]byte
	for {
		_, from, err := u.rtcp.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return
		}
		u.mu.Lock()
		alive := u.alive[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
		u.mu.Unlock()
		if alive != nil {
			alive()
		}
	}
}

func (u *udpPair) close() {
	u.rtp.Close()
	u.rtcp.Close()
}
