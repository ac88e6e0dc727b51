package attach

import "github.com/keyholed/keyhole/protocol/identity"

// The messages of a call number: by it somebody finds a device whose display he
// cannot see, while a person reads the number to him. It says which device, and no
// more: what lets him in is a code that the basestation never hears of.
//
//	device                     node                       client
//	  | CALL ------------------->|                           |  within its limits
//	  |<------------ CALL NUMBER |                           |  on the display
//	  |                          |<-------------------- FIND |  first message of a link
//	  |                          | FOUND ------------------->|  the id; every no after the same second
//	  | CALL, over ------------->|                           |  nobody finds it any more
const (
	KindCall       Kind = 75 // device to node: a call number, please; or it is not wanted any more
	KindCallNumber Kind = 76 // node to device
	KindFind       Kind = 77 // client to node, also as first message: whose number is this?
	KindFound      Kind = 78 // node to client
)

// CallDigits is the length of a call number: it is read out over the telephone, and
// with a few hundred devices waiting at once one number in some thousand leads to one.
const CallDigits = 6

// Call is the body of KindCall.
type Call struct {
	Request uint64 `cbor:"1,keyasint,omitempty"` // chosen by the device; comes back in CALL NUMBER
	Over    string `cbor:"2,keyasint,omitempty"` // the number that is not wanted any more; then there is no answer
}

func (c *Call) check() error {
	if c.Over != "" && !IsCallNumber(c.Over) {
		return ErrMalformed
	}
	return nil
}

// CallNumber is the body of KindCallNumber. No number is a no: too many were asked for.
type CallNumber struct {
	Request uint64 `cbor:"1,keyasint"`
	Number  string `cbor:"2,keyasint,omitempty"` // CallDigits decimal digits
	Seconds uint16 `cbor:"3,keyasint,omitempty"` // it is good for
}

func (c *CallNumber) check() error {
	if c.Number != "" && !IsCallNumber(c.Number) {
		return ErrMalformed
	}
	return nil
}

// Find is the body of KindFind. It is not signed: what counts is where it comes from.
type Find struct {
	Number string `cbor:"1,keyasint"`
}

func (f *Find) check() error {
	if !IsCallNumber(f.Number) {
		return ErrMalformed
	}
	return nil
}

// Found is the body of KindFound. No id is every no: never given out, over, or too
// many questions.
type Found struct {
	Device identity.ID `cbor:"1,keyasint,omitempty"`
}

func (f *Found) check() error {
	if f.Device == "" {
		return nil
	}
	_, err := identity.ParseID(string(f.Device))
	return err
}

// IsCallNumber tells whether a text has the form of a call number.
func IsCallNumber(s string) bool {
	if len(s) != CallDigits {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
