// Package reach is what a device and a client do alike to meet beyond the LAN:
// a link to a node of the basestation that is kept over UDP or TCP, and the ways
// to the other side that an introduction opens.
//
//	[Link]       kept to a node, over UDP or in TCP
//	[Puncher]    UDP through both routers, on the socket that QUIC uses
//	[MeetTCP]    TCP through both routers, by simultaneous open
//	[RelayLeg]   TCP to the basestation, which joins it to the other side's leg
//
// It brings addresses and connections and makes no session of them: who is at
// the other end is proven by TLS above, in protocol/session. Nothing here
// decides whether somebody may be met; the device asks its access list before
// anything is sent, and so before it calls this package.
//
// What is sent to an address that has not answered is bounded by the constants
// here and never larger than what came from it.
package reach
