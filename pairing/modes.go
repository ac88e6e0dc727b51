package pairing

// ModeButton is the mode in which a person compares six digits and presses.
const ModeButton = "button"

// modes are the ways to pair. Each has its own file with its exchange; window,
// tries and the one exchange at a time are common to all.
var modes = map[string]struct {
	nearby bool // only for a local caller over TCP
}{
	ModeButton: {nearby: true},
}
