package main

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/quic-go/quic-go"
)

// quicConfig leaves raw quic-go its defaults, but for as many streams as there
// are tunnels, and for a connection window that one tunnel nobody reads from
// does not use up.
var quicConfig = &quic.Config{MaxIncomingStreams: roomy, KeepAlivePeriod: 10 * time.Second, InitialConnectionReceiveWindow: 256 << 20, MaxConnectionReceiveWindow: 256 << 20}

// quicStream has half-close by the names that join knows.
type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Stream.Close() }
func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

// quicDevice is raw quic-go on the bare socket, so with segmentation offload:
// one connection, a stream for each tunnel.
func quicDevice(target, _ string) (string, string, error) {
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", "", err
	}
	l, err := (&quic.Transport{Conn: udp}).Listen(identity.ServerTLS(key, "bench"), quicConfig)
	if err != nil {
		return "", "", err
	}
	go func() {
		for {
			conn, err := l.Accept(background)
			if err != nil {
				return
			}
			go acceptStreams(conn, target)
		}
	}()
	return udp.LocalAddr().String(), key.Fingerprint().String(), nil
}

func acceptStreams(conn *quic.Conn, target string) {
	for {
		stream, err := conn.AcceptStream(background)
		if err != nil {
			return
		}
		go func() {
			out, err := net.Dial("tcp", target)
			if err != nil {
				stream.CancelRead(1)
				return
			}
			join(quicStream{stream}, out.(*net.TCPConn))
		}()
	}
}

func quicClient(target, pin string) (string, string, error) {
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	device, err := identity.ParseFingerprint(pin)
	if err != nil {
		return "", "", err
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", "", err
	}
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return "", "", err
	}
	var config *tls.Config = identity.ClientTLS(key, identity.PinFingerprint(device), "bench")
	conn, err := (&quic.Transport{Conn: udp}).Dial(background, to, config, quicConfig)
	if err != nil {
		return "", "", err
	}
	address, err := listen(func(in *net.TCPConn) {
		stream, err := conn.OpenStreamSync(background)
		if err != nil {
			in.Close()
			return
		}
		join(in, quicStream{stream})
	})
	return address, "", err
}
