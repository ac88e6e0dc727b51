package hal

import (
	"fmt"
	"time"
)

// The figures of a press. All are measured from the moment the contact came to
// rest, not from the moment the decision was made.
const (
	// Debounce is how long a level must last to count. Contacts of small
	// tactile switches settle within 5 ms when new, 20 ms when worn.
	Debounce = 30 * time.Millisecond

	// ShortPress is where a short press ends: anything held this long or longer
	// is a hold.
	ShortPress = 2 * time.Second

	// DoubleWindow is how long after a short press a second one may begin and
	// still be the same gesture. Only buttons whose Rule says Double pay it.
	DoubleWindow = 400 * time.Millisecond

	// ConfirmHold, ConfirmWithin: the gesture for what cannot be undone. Hold,
	// release, and press once more within the second time.
	ConfirmHold   = 10 * time.Second
	ConfirmWithin = 5 * time.Second

	// ConfirmPause is the least time between that release and the press. We
	// chose it: a finger that slips during the hold is back sooner, and must
	// not have confirmed anything when it finally lets go.
	ConfirmPause = 200 * time.Millisecond

	// StuckAfter ends a hold that is no hand: a box leaning on the device, a
	// button that does not spring back. We chose it.
	StuckAfter = time.Minute

	// ChatterLimit is how long a line may stay restless before it is taken for
	// a loose cable, not for a finger. We chose ten times what a worn switch needs.
	ChatterLimit = 250 * time.Millisecond
)

// A Rule says which gestures a button takes part in beside the plain press. The
// zero value is a plain button.
type Rule struct {
	Double  bool // two short presses are one gesture; a single one is told DoubleWindow later
	Confirm bool // hold for ConfirmHold, release, press once within ConfirmWithin
}

// Kind tells what an Event reports.
type Kind uint8

// Kinds of events. The first three are gestures, complete when they are told;
// the others say how far a half done one is, for a display or a light.
const (
	Press     Kind = iota + 1 // pressed for Held and released
	Double                    // two short presses
	Confirmed                 // held for ConfirmHold, released, pressed once more

	Holding   // still down after Held, told each second; Left until Armed where that can follow
	Armed     // down for ConfirmHold: release now, then press
	Waiting   // released after Armed, told each second; Left to press
	Cancelled // nothing will come of what was half done; Why tells the reason
)

var kindNames = map[Kind]string{
	Press: "press", Double: "double press", Confirmed: "confirmed hold",
	Holding: "holding", Armed: "armed", Waiting: "waiting", Cancelled: "cancelled",
}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Gesture reports whether k is a complete gesture rather than a step of one.
func (k Kind) Gesture() bool { return k == Press || k == Double || k == Confirmed }

// A Reason says why a half gesture came to nothing.
type Reason string

// Reasons of a Cancelled event.
const (
	OtherButton Reason = "another button was pressed"
	TooLate     Reason = "not pressed in time"
	TooSoon     Reason = "pressed again too soon"
	TooLong     Reason = "held too long"
	Chatter     Reason = "the contact does not come to rest"
	Lost        Reason = "the button was lost"
)

// An Event is one thing a hand did at a button. Fields a Kind does not speak of
// are zero.
type Event struct {
	Kind   Kind
	Button string
	Held   time.Duration // Press, Holding, Armed: from press to release, or so far
	Left   time.Duration // Holding, Waiting: until the next step, whole seconds
	Why    Reason        // Cancelled
}

// Short reports a Press of less than ShortPress.
func (e Event) Short() bool { return e.Kind == Press && e.Held < ShortPress }

func (e Event) String() string {
	s := e.Button + ": " + e.Kind.String()
	switch {
	case e.Why != "":
		s += ", " + string(e.Why)
	case e.Kind == Waiting:
		s += fmt.Sprintf(", %v left", e.Left)
	case e.Held > 0:
		s += " " + e.Held.Round(time.Millisecond).String()
	}
	return s
}
