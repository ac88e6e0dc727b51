// Package pairing lets a stranger in when somebody at the device says so. It
// holds the pairing window, the exchanges of button mode and code mode (both
// halves: the device's is Window, the client's are Asker and CodeAsker), and the rules with figures that
// keep guessers and people in the middle out.
//
// It knows neither button nor display, network nor database: the daemon tells
// it of presses and callers, shows what State returns, and enters the newcomer
// through the one-method Granter. It starts no goroutine; time is the monotonic
// clock, compared when the window is used, and one timer for the next deadline.
//
// # The window
//
//	        press                    Begin                Reveal
//	closed -------> open, nobody ------------> begun ---------------> shown
//	   ^             |  ^   ^   press closes     | 5 s, 20 s in all     | 30 s, vanished
//	   |  180 s,     |  |   +--------------------+----------------------+
//	   |  press,     |  |                          a failed try         | press
//	   |  5 failures,|  |  refused by the Granter                       v
//	   +-------------+  +------------------------------------------- granting
//	   ^                           granted: the window closes           |
//	   +----------------------------------------------------------------+
//
// A window lasts 180 s and is never extended. One fingerprint may ask in it: a
// second one closes it and both are told why, because a person who presses
// could not say which of the two is meant. The same client may ask again, and
// its earlier exchange ends as a failed one. While a client's digits are shown a
// press accepts it; while nobody's are, a press closes the window, except within
// a second after digits vanished, because that press was meant as a yes and
// must not become another thing.
//
// # Button mode
//
// Client and device compute six digits that a person compares. Each puts in a
// nonce; the client commits to its own before it sees the device's:
//
//	client                                              device
//	Nc = 32 random bytes
//	C = SHA-256(commit, Fd, Fc, E, Nc)
//	          name, user, C          ------------->     counts a try, synced
//	                                                    Nd = 32 random bytes
//	          <-------------            exchange, Nd
//	          exchange, Nc           ------------->     checks C
//	shows D   D = SHA-256(check, Fd, Fc, E, Nc, Nd)     shows D
//	                                                    press
//	          <-------------         user, role
//
// Fd and Fc are the fingerprints of device and client and E is the exporter of
// their TLS session (RFC 8446 §7.5) under ExporterLabel, so digits agree only if
// both ends speak of the same two keys on the same session. Somebody in the
// middle holds two sessions. Without the commitment he would hear one side's
// nonce and then search for his own, a million hashes, until both ends show
// equal digits. With it he is bound on the device's side before he hears Nd, and
// on the client's side he answers before he hears Nc: whatever the order, the
// last nonce that enters each side's digits is unknown to him when he chooses.
// The client commits, not the device, so that the device, which counts, speaks
// second: every chance costs a counted try, and each is one in a million.
//
// # Code mode
//
// The display shows eight digits, new at each opening, and whoever proves to know
// them is let in without a further press: SPAKE2+ (package spake2plus) with the
// client as prover. Before the window opens the device stretches code and salt
// (argon2id), once per code and one at a time; the client stretches what was typed.
//
//	client                                              device
//	w0, w1 of the typed code                            w0, L of the shown code
//	X          name, user, X          ------------->     counts a try, synced
//	           <-------------         exchange, Y, cV
//	checks cV  exchange, cP           ------------->     checks cP: the code is used up
//	           <-------------         user, role
//
// Y and cV are the first that depends on the code, so the try is on the disk
// before they leave, and is given back on proof. Both proofs cover the context
//
//	"keyhole/1 pair code" 00  0020 Fd  0020 Fc  0020 E
//
// with Fc as idProver and Fd as idVerifier, so that they fit only between these
// two keys on this session. Each exchange tests one code: five in a hundred million
// per press. A second client while one asks is told to wait; it does not close
// the window, because no press has to mean one of the two. A refused grant (a name
// that is taken) leaves the window and its code for another attempt.
//
// With a display and both modes configured, button is not offered: see Config.
//
// # Bytes
//
// All hash inputs have one layout: a domain, a zero byte, then fields, each
// with its length in front (2 bytes, big-endian):
//
//	commit:  "keyhole/1 pair button commit" 00
//	         0020 Fd  0020 Fc  0020 E  0020 Nc
//	check:   "keyhole/1 pair button check" 00
//	         0020 Fd  0020 Fc  0020 E  0020 Nc  0020 Nd
//
// The digits are the first 8 bytes of the check hash as a big-endian number,
// modulo 1,000,000, with leading zeros. No value is rejected; since 2^64 is not a
// multiple of a million, 000000 to 551615 are likelier than the rest by one part
// in 1.8 * 10^13, which is of no use to anybody.
//
// The names a client sends are not in the hashes: they travel inside the session
// that E names, and nobody else can put words into it.
//
// # What a try is
//
// A try is a chance somebody in the middle might take: he can end an exchange as
// soon as he sees that the digits differ, before a person does, and start anew.
// So in button mode each exchange counts as a failed guess from before the
// device's nonce is sent until a press proves that a person found the digits
// right. Abandoned, timed out, replaced and wrongly revealed exchanges stay
// counted. 5 tries end a window, one source has 2 of them, and 100 without a
// success in between, counted on disk, lock pairing until LongPress or Lift. That
// leaves a man in the middle 5 chances in a million per press and 1 in 10,000
// before the owner is called upon.
//
// # What it cannot do
//
// The client's own word "granted" proves nothing to the person at the client: a
// false device says it too. Only the digits do, or an id known beforehand.
//
// # Support
//
// A Support is apart from the window: a press shows six digits, and whoever proves them
// (SPAKE2+ as in code mode, from anywhere, with the domain "keyhole/1 support") is a guest
// for half an hour. Where the vendor has a support key, a signature of it over this session
// comes with the first message (VendorProof). What was shown and tried is on the disk
// before anything is said; see support_limits.go for the figures and for how a day is counted.
package pairing
