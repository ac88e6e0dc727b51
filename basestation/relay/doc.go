// Package relay joins two TCP connections, a client's and a device's, for
// pairs of peers that cannot meet directly. The basestation uses it.
//
//	introduction -> Pair            two tickets, one for each side
//	client's leg -> Serve           its ticket is good: first() is called, and has the device told
//	device's leg -> Serve           its ticket is good: the two are one tunnel
//	             bytes both ways, end of one side carried to the other
//	             -> Report          who, how long, how much, why it ended
//
// What passes is TLS between client and device. The relay holds no key to it
// and does not look: on Linux the bytes do not even enter this process, the
// kernel moves them from socket to socket by way of a pipe. A tunnel in which
// nothing flows holds two goroutines with their smallest stacks and no pipe and
// no buffer; a pipe is borrowed when bytes are there and given back when they
// are through.
//
// The package listens nowhere, knows no message of the attach protocol but the
// preface of a leg, and permits nothing: whoever was given a ticket may use it
// once. It keeps no record over a restart.
package relay
