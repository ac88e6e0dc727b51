//go:build !linux

package congestion

import "net"

// choose does nothing: no other system that we build for lets a program choose
// per connection.
func choose(net.Conn, string) bool { return false }
