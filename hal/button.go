package hal

import "time"

// A Button reports the edges of one line. Drivers implement it; each calls the
// conformance suite in hal/haltest from its tests.
type Button interface {
	// Edges returns the one channel of this button. The first value is always
	// the level as found, marked Resync. The channel is closed by Close, or
	// when the button is gone for good.
	//
	// A driver never blocks for ever on a full channel: when edges had to be
	// dropped, by it or by the kernel, the next value is a Resync.
	Edges() <-chan Edge

	// Close releases the line and closes the channel. It is idempotent, and
	// safe while somebody waits for an edge.
	Close() error

	// String names the line for a log: "simulated pair", "gpiochip0 line 17".
	String() string
}

// An Edge is one change of a button's line, bounce included: drivers do not
// debounce, though one that the kernel debounced is welcome.
type Edge struct {
	Down bool // the level after the edge: true is pressed, whatever the voltage

	// At is when it happened and carries Go's monotonic reading. time.Now has
	// it and Add keeps it; a driver with a kernel time stamp of CLOCK_MONOTONIC
	// adds the (negative) difference between stamp and that clock's now to
	// time.Now. The age of an edge is thus right even when it was read late,
	// and setting the clock changes nothing.
	At time.Time

	// Resync tells that this is not a change that was seen but the level as it
	// was found: when the line was opened, after events were lost (evdev
	// SYN_DROPPED, a gap in GPIO sequence numbers) or when an unplugged button
	// went (not Down) or came back. It ends whatever was half done, and a
	// button found down counts only after it was released.
	Resync bool
}
