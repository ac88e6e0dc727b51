package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/keyholed/keyhole/protocol/identity"
)

// play is one side of a contender. It says where it listens, and ends with its
// standard input.
func play(role, target, extra string) error {
	roles := map[string]func(target, extra string) (address, more string, err error){
		"service":        service,
		"plain":          plain,
		"tls-device":     tlsDevice,
		"tls-client":     tlsClient,
		"quic-device":    quicDevice,
		"quic-client":    quicClient,
		"keyhole-device": keyholeDevice,
		"keyhole-client": keyholeClient,
		"relay":          relayRole,
	}
	start, ok := roles[role]
	if !ok {
		return fmt.Errorf("no such role")
	}
	profile, err := startProfile(role)
	if err != nil {
		return err
	}
	defer profile()
	address, more, err := start(target, extra)
	if err != nil {
		return err
	}
	// What is garbage is not memory that a tunnel costs: asked by a signal, a
	// role gives it back before it is weighed.
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, syscall.SIGUSR1)
	go func() {
		for range collect {
			debug.FreeOSMemory()
			profileMemory(role)
		}
	}()
	fmt.Println(address, more)
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// listen serves each connection to a new port.
func listen(serve func(*net.TCPConn)) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return l.Addr().String(), nil
}

// service is what the device makes reachable: after an 'e' it echoes, that
// byte included; after a 'b' it sends for as long as it is let.
func service(string, string) (string, string, error) {
	block := make([]byte, 256<<10)
	address, err := listen(func(conn *net.TCPConn) {
		defer conn.Close()
		buf := make([]byte, 512)
		if _, err := io.ReadFull(conn, buf[:1]); err != nil {
			return
		}
		if buf[0] == 'b' {
			for {
				if _, err := conn.Write(block); err != nil {
					return
				}
			}
		}
		for n := 1; ; {
			if _, err := conn.Write(buf[:n]); err != nil {
				return
			}
			var err error
			if n, err = conn.Read(buf); err != nil {
				return
			}
		}
	})
	return address, "", err
}

// halfCloser is what both ends of a tunnel can do.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join copies both ways, as a simple tunnel does.
func join(a, b halfCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(a, b)
		a.CloseWrite()
	}()
	io.Copy(b, a)
	b.CloseWrite()
	<-done
	a.Close()
	b.Close()
}

func plain(target, _ string) (string, string, error) {
	address, err := listen(func(conn *net.TCPConn) {
		out, err := net.Dial("tcp", target)
		if err != nil {
			conn.Close()
			return
		}
		join(conn, out.(*net.TCPConn))
	})
	return address, "", err
}

// tlsDevice is raw crypto/tls: a connection and a full mutual handshake for each
// tunnel, io.Copy with its 32 KiB. At says which relay its connections come
// through; empty: it listens.
func tlsDevice(target, at string) (string, string, error) {
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	config := identity.ServerTLS(key)
	config.SessionTicketsDisabled = true
	serve := func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if err := secure.Handshake(); err != nil {
			conn.Close()
			return
		}
		out, err := net.Dial("tcp", target)
		if err != nil {
			conn.Close()
			return
		}
		join(secure, out.(*net.TCPConn))
	}
	if at != "" {
		return "-", key.Fingerprint().String(), acceptLegs(at, serve)
	}
	address, err := listen(func(conn *net.TCPConn) { serve(conn) })
	return address, key.Fingerprint().String(), err
}

// tlsClient is the other end. Extra is the path, tcp or relay, and the device's
// fingerprint.
func tlsClient(target, extra string) (string, string, error) {
	path, pin, _ := strings.Cut(extra, " ")
	key, err := identity.Generate()
	if err != nil {
		return "", "", err
	}
	device, err := identity.ParseFingerprint(pin)
	if err != nil {
		return "", "", err
	}
	config := identity.ClientTLS(key, identity.PinFingerprint(device))
	config.ClientSessionCache = nil
	dial := func() (*tls.Conn, error) { return tls.Dial("tcp", target, config) }
	if path == "relay" {
		if dial, err = relayTLS(target, config); err != nil {
			return "", "", err
		}
	}
	address, err := listen(func(conn *net.TCPConn) {
		out, err := dial()
		if err != nil {
			conn.Close()
			return
		}
		join(conn, out)
	})
	return address, "", err
}

// background is the life of a role.
var background = context.Background()
