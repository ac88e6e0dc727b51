//go:build !linux

package control

import (
	"errors"
	"net"
)

// ErrInUse is wrapped by Listen's error when another daemon serves the socket.
var ErrInUse = errors.New("another keyholed serves this socket")

// Listen works on Linux only, where keyholed runs.
func Listen(string) (net.Listener, error) { return nil, errors.ErrUnsupported }

func peerOf(net.Conn) (Peer, error) { return Peer{}, errors.ErrUnsupported }
