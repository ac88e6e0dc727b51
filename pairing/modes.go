package pairing

import "slices"

// The modes.
const (
	// ModeButton is the mode in which a person compares six digits and presses.
	ModeButton = "button"

	// ModeCode is the mode in which a person types the code on the display.
	ModeCode = "code"

	// ModeLabel is the mode in which a person types the code on the sticker.
	ModeLabel = "label"
)

// modes are the ways to pair at the device; ModeInvite needs no window. Each has its own file with its exchange; window,
// tries and the one exchange at a time are common to all.
var modes = map[string]struct {
	nearby   bool // only for a local caller over TCP
	compared bool // a press decides, so that two askers would be one too many
}{
	ModeButton: {nearby: true, compared: true},
	ModeCode:   {nearby: true},
	ModeLabel:  {nearby: true},
}

// chosen returns which of the configured modes this device uses: known ones,
// once each, code only where a display can show one, and then not button as
// well, because who can read a code needs no weaker way.
func chosen(configured []string, display bool) []string {
	var list []string
	for _, m := range configured {
		if _, known := modes[m]; known && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	other := ModeCode
	if display && slices.Contains(list, ModeCode) {
		other = ModeButton
	}
	return slices.DeleteFunc(list, func(m string) bool { return m == other })
}
