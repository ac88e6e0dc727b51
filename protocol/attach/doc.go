// Package attach is the datagram protocol between a device, or a client, and a
// node of a basestation: how a device stays findable by a few hundred bytes of
// state and one small packet in each direction every half minute, and how a
// client asks to be introduced to it.
//
//	device -> controller   LOCATE(prefix), padded            1
//	controller -> device   LOCATED(cookie, certificate)      2  not larger than 1
//	device -> node         HELLO(version, cookie, noise 1)   3  Noise_NK_25519_AESGCM_SHA256
//	node -> device         WELCOME(noise 2)                  4
//	device -> node         packet: ATTACH(proof)             5  or INTRODUCE, of a client
//	node -> device         packet: ATTACHED(reset token)     6
//
// It is bytes in, bytes out. [Link] is the side of the device or client, [Node]
// the side of the basestation; both are plain structs that are handed packets
// and the time and hand back packets through a function. There is no socket, no
// clock, no goroutine and no file in this package, so a test can run a week of
// it on a bad network in a second. Neither type may be used by two goroutines
// at once.
//
// What the protocol promises: a node sends no more bytes than it received to an
// address that has not proven itself; it touches no key before it has checked a
// cookie; it holds no secret that could open a session between client and
// device; a device believes a node only by a certificate of a pinned root key
// and a reset only by the token it was given inside the sealed channel.
//
// Where UDP is blocked the same packets travel in TCP ([StreamAttach]); a peer is found by
// its index there as well, so a link goes from one to the other as it goes
// from one address to another.
//
// Beside the link the package holds what client, node and device say to each other
// about an introduction ([Introduction] and what follows, [Offer], [Ticket]), the
// packet that opens a way through routers ([Punch]), and the pass by which a
// client may hear that a device is offline ([NewPresencePass]).
//
// It decides no permission: who may enrol is asked through [NodeConfig].Ask, and
// what an introduced client may do is the device's own business. protocol/reach
// keeps a Link on sockets, basestation a Node. The byte layouts are drawn beside
// the constants in this package; docs/attach.md shows the whole.
package attach
