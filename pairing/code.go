package pairing

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Passcode is the code on the display: eight decimal digits, or none (the zero
// value). It prints only by Grouped. Two are equal with ==.
type Passcode struct{ digits string }

// ErrNotCode means that what was typed cannot be a code from a display.
var ErrNotCode = errors.New("not a code from a display: want 8 digits, such as 1234 5678")

// ParsePasscode reads what a person typed. Spaces and dashes do not matter.
func ParsePasscode(typed string) (Passcode, error) {
	if len(typed) > 8*codeDigits {
		return Passcode{}, ErrNotCode
	}
	digits := strings.NewReplacer(" ", "", "-", "", "\t", "", "\u00a0", "", "\u2013", "").Replace(typed)
	if len(digits) != codeDigits || strings.Trim(digits, "0123456789") != "" {
		return Passcode{}, ErrNotCode
	}
	return Passcode{digits}, nil
}

// Grouped is how people read it, "1234 5678"; "" for none.
func (p Passcode) Grouped() string {
	if p.IsZero() {
		return ""
	}
	return p.digits[:codeDigits/2] + " " + p.digits[codeDigits/2:]
}

// IsZero tells that there is no code.
func (p Passcode) IsZero() bool { return p.digits == "" }

// Format keeps it out of logs, whatever the verb.
func (p Passcode) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[code]") }

// String keeps it out of logs too.
func (p Passcode) String() string { return "[code]" }

// MarshalText keeps it out of JSON.
func (p Passcode) MarshalText() ([]byte, error) { return []byte("[code]"), nil }

// randomPasscode takes 32 random bits and throws away the few values that would
// make some codes likelier than others.
func randomPasscode() Passcode {
	const fair = (1 << 32) / codeModulus * codeModulus
	for {
		var b [4]byte
		rand.Read(b[:])
		if n := binary.BigEndian.Uint32(b[:]); uint64(n) < fair {
			return Passcode{fmt.Sprintf("%0*d", codeDigits, n%codeModulus)}
		}
	}
}

// stretch is RFC 9383 §3.2: the hash of code and parties, of which the prover is
// not known yet when a device does it.
func stretch(code string, device identity.Fingerprint, salt []byte) []byte {
	var m []byte
	for _, field := range [][]byte{[]byte(code), nil, device[:]} {
		m = binary.LittleEndian.AppendUint64(m, uint64(len(field)))
		m = append(m, field...)
	}
	return argon2.IDKey(m, salt, StretchPasses, StretchKiB, StretchLanes, spake2plus.SecretBytes)
}

func secretsOf(code string, device identity.Fingerprint, salt []byte) *spake2plus.Secrets {
	s, err := spake2plus.NewSecrets(stretch(code, device, salt))
	if err != nil {
		panic(err) // only for another length
	}
	return s
}

// A shownCode is a code with what the device checks it by. It never changes.
type shownCode struct {
	code   Passcode
	salt   []byte
	record *spake2plus.Record
}

// spareCode is a code that nobody has seen yet, so that the hard work is done
// before the window opens, once per code and one at a time.
type spareCode struct {
	sync.Mutex // taken before no other lock
	ready      *shownCode
	stretched  int // how often the work was done
}

// takeCode returns a code for a window that may open now, or nil when the device
// does not pair by code. It goes to openLocked or back to keepCode.
func (w *Window) takeCode() *shownCode {
	if !w.byCode() {
		return nil
	}
	w.spare.Lock()
	defer w.spare.Unlock()
	if c := w.spare.ready; c != nil {
		w.spare.ready = nil
		return c
	}
	c := &shownCode{code: randomPasscode(), salt: make([]byte, SaltBytes)}
	rand.Read(c.salt)
	c.record = secretsOf(c.code.digits, w.device, c.salt).Record()
	w.spare.stretched++
	return c
}

// keepCode takes back a code that was not shown to anybody.
func (w *Window) keepCode(c *shownCode) {
	if c == nil {
		return
	}
	w.spare.Lock()
	defer w.spare.Unlock()
	w.spare.ready = c
}
