// Package tunnel bridges a peer's stream to one of the services the device's
// configuration names.
//
// The daemon asks it, after the access list has said yes, to open a service and
// to run the bytes; the client uses its Pump between a local port and a
// session's stream. It knows the service table, the limits, the four types of
// service and what goes by in each; it does not know who may do what, and it
// has no session protocol: streams come as Conn.
//
//	table     what may be reached: names to targets, swapped whole on reload
//	Bridge    limits, dialling, the list of what is open, one log line at the end
//	Pump      bytes both ways, half-close, idle and stall limits, bounded memory
//	inject    a room of its own: signs in to services whose password the device knows
//	rtsp      watches the requests of a type rtsp tunnel and answers UDP-only SETUPs
//
// Nothing a peer sends becomes an address: ParseAuthority takes a name, the
// table has the rest.
package tunnel
