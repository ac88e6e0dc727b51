//go:build !linux

package testnet

import (
	"errors"
	"net"
	"testing"
)

// Within needs Linux.
func (n *Namespace) Within(func() error) error {
	return errors.New("network namespaces need Linux")
}

// ListenUDP needs Linux.
func (n *Namespace) ListenUDP(t testing.TB, port uint16) *net.UDPConn {
	t.Skip("network namespaces need Linux")
	return nil
}
