package pairing

// A Code is why a client may not go on, from a closed list that clients know.
type Code string

// The codes.
const (
	CodeRefused  Code = "refused"
	CodeBusy     Code = "busy"
	CodeOverlap  Code = "second-client"
	CodeTries    Code = "too-many-tries"
	CodeTimeout  Code = "timeout"
	CodeClosed   Code = "closed"
	CodeReplaced Code = "replaced"
	CodeProof    Code = "wrong-code"
)

// An Error is what the asking client is told. Compare with errors.Is, or take
// the Code.
type Error struct {
	Code Code
	text string
}

func (e *Error) Error() string { return e.text }

// What Begin and Reveal return to the client.
var (
	// ErrRefused is the one answer to a closed window, a mode that is not offered,
	// a caller who is not local, an exchange that is unknown or another's, and a
	// reveal that does not fit its commitment: the asker learns nothing from it.
	ErrRefused = &Error{CodeRefused, "pairing is not possible now"}

	// ErrProof: the client has not proven the code. It reads like ErrRefused, so
	// that the asker learns nothing from it either; the code is for the device's own log.
	ErrProof = &Error{CodeProof, ErrRefused.text}

	// ErrBusy: another exchange is being granted at this moment.
	ErrBusy = &Error{CodeBusy, "another client is just being paired: try again"}

	// ErrOverlap: two clients asked in one window, which closed it. Both get it.
	ErrOverlap = &Error{CodeOverlap, "two clients asked at the same time, so the pairing window was closed: press the button again and ask with one"}

	// ErrTries: the source has used its tries, or the window has, or the device.
	ErrTries = &Error{CodeTries, "too many tries: press the button again to open a new pairing window"}

	// ErrTimeout: the client or the person at the device took too long.
	ErrTimeout = &Error{CodeTimeout, "nobody confirmed in time"}

	// ErrClosed: the window ended while the client asked.
	ErrClosed = &Error{CodeClosed, "the pairing window was closed"}

	// ErrReplaced: the same client asked again, which ends its earlier exchange.
	ErrReplaced = &Error{CodeReplaced, "the same client has asked again"}
)

// A LockedError is returned by Open while too many tries without a success lock
// pairing. LongPress and Lift end that.
type LockedError struct {
	Tries int   // since the last success
	Err   error // not nil: the counter cannot be read, which locks as well
}

func (e *LockedError) Error() string {
	if e.Err != nil {
		return "pairing is locked, because its counter of tries cannot be read: " + e.Err.Error()
	}
	return "pairing is locked after too many failed tries: hold the pair button for 10 s"
}

func (e *LockedError) Unwrap() error { return e.Err }

// A RequestError names the field of a request that cannot be accepted. Nothing
// was counted or changed.
type RequestError struct {
	Field string // as in the request types: "name", "user", "commitment", "exchange", "nonce", "share", "confirm"
	Why   string
}

func (e *RequestError) Error() string { return e.Field + ": " + e.Why }
