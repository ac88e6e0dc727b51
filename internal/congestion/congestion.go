// Package congestion chooses how TCP connections beyond the LAN answer loss.
//
// Cubic takes each lost packet for a full queue and halves its speed; on a
// radio link packets are lost for other reasons, and one in a hundred is
// enough to starve it: measured over a round trip of 50 ms and 200 Mbit/s with
// 1 % loss, cubic delivers 0.3 MB/s and BBR 21.6. BBR measures the path
// instead. Sessions, punched connections and legs of a relay ask for it here;
// on the LAN nothing does, since nothing is to be gained there.
//
// The package decides nothing else and knows no protocol above TCP.
package congestion

import "net"

// PreferBBR makes conn send by BBR where the kernel has it and lets this
// process choose it, and reports whether it does so now. Everywhere else conn
// stays as the system made it, which is slower on a bad path and never wrong.
// Only what this side sends is concerned: the other side asks for itself. A
// TLS connection is looked through to its socket.
//
// On Linux a user other than root may choose what
// net.ipv4.tcp_allowed_congestion_control lists; that is bbr where the module
// is loaded and it is the default or listed.
func PreferBBR(conn net.Conn) bool {
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = above.NetConn()
	}
	return choose(conn, bbr)
}

const bbr = "bbr"
