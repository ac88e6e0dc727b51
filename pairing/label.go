package pairing

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A LabelCode is the code on a device's sticker: ten characters of base 32, or
// none (the zero value). It prints only by Grouped. Two are equal with ==.
//
// The alphabet is Crockford's: no I, L, O and U, so that no two characters look
// alike on a small print; who types them means 1, 1, 0 and V.
type LabelCode struct{ text string }

const labelAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ErrNotLabel means that what was typed cannot be the code of a label.
var ErrNotLabel = errors.New("not the code of a label: want 10 letters and digits, such as 7K3MN-Q8ZTA")

// ParseLabel reads what a person typed. Case, spaces and dashes do not matter.
func ParseLabel(typed string) (LabelCode, error) {
	if len(typed) > 8*labelChars {
		return LabelCode{}, ErrNotLabel
	}
	s := strings.NewReplacer(" ", "", "-", "", "\t", "", "\n", "", "\r", "", "\u00a0", "", "\u2013", "").Replace(strings.ToUpper(typed))
	s = strings.NewReplacer("O", "0", "I", "1", "L", "1", "U", "V").Replace(s)
	if len(s) != labelChars || strings.Trim(s, labelAlphabet) != "" {
		return LabelCode{}, ErrNotLabel
	}
	return LabelCode{s}, nil
}

// NewLabel draws one from the random pool.
func NewLabel() LabelCode {
	var b [8]byte
	rand.Read(b[1:])
	return labelFrom(binary.BigEndian.Uint64(b[:]))
}

// labelFrom takes the low 50 bits.
func labelFrom(bits uint64) LabelCode {
	var c [labelChars]byte
	for i := range c {
		c[i] = labelAlphabet[bits>>(5*(labelChars-1-i))&31]
	}
	return LabelCode{string(c[:])}
}

// bytes is the 50 bits, big-endian, in 7 bytes.
func (l LabelCode) bytes() []byte {
	var bits uint64
	for _, c := range []byte(l.text) {
		bits = bits<<5 | uint64(strings.IndexByte(labelAlphabet, c))
	}
	return binary.BigEndian.AppendUint64(nil, bits)[1:]
}

func labelOf(b []byte) (LabelCode, error) {
	if len(b) != 7 || b[0] > 3 {
		return LabelCode{}, ErrNotLink
	}
	return labelFrom(binary.BigEndian.Uint64(append([]byte{0}, b...))), nil
}

// Grouped is how it is printed, "7K3MN-Q8ZTA"; "" for none.
func (l LabelCode) Grouped() string {
	if l.IsZero() {
		return ""
	}
	return l.text[:labelChars/2] + "-" + l.text[labelChars/2:]
}

// IsZero tells that there is no code.
func (l LabelCode) IsZero() bool { return l.text == "" }

// Format keeps it out of logs, whatever the verb.
func (l LabelCode) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[label]") }

// String keeps it out of logs too.
func (l LabelCode) String() string { return "[label]" }

// MarshalText keeps it out of JSON.
func (l LabelCode) MarshalText() ([]byte, error) { return []byte("[label]"), nil }

// A LabelRecord is what the device keeps of its label: enough to check a client,
// not to be one, and not to print another sticker. It does not print.
//
//	0   1  version, 1
//	1   16 salt
//	17  97 SPAKE2+ record: w0, L
type LabelRecord struct {
	salt   []byte
	record *spake2plus.Record
}

const (
	labelVersion = 1

	// LabelRecordBytes is the size of a LabelRecord as it is kept.
	LabelRecordBytes = 1 + SaltBytes + spake2plus.RecordBytes
)

// ErrLabelRecord means that a label record is damaged.
var ErrLabelRecord = errors.New("the record of the label is damaged: make a new label")

// Record stretches the code, which takes a moment and StretchKiB of memory.
func (l LabelCode) Record(device identity.Fingerprint) LabelRecord {
	r := LabelRecord{salt: make([]byte, SaltBytes)}
	rand.Read(r.salt)
	r.record = secretsOf(l.text, device, r.salt).Record()
	return r
}

// Bytes is what to keep.
func (r LabelRecord) Bytes() []byte {
	return append(append([]byte{labelVersion}, r.salt...), r.record.Bytes()...)
}

// ParseLabelRecord reads what Bytes returned, or returns ErrLabelRecord.
func ParseLabelRecord(b []byte) (LabelRecord, error) {
	if len(b) != LabelRecordBytes || b[0] != labelVersion {
		return LabelRecord{}, ErrLabelRecord
	}
	record, err := spake2plus.ParseRecord(b[1+SaltBytes:])
	if err != nil {
		return LabelRecord{}, ErrLabelRecord
	}
	return LabelRecord{salt: append([]byte(nil), b[1:1+SaltBytes]...), record: record}, nil
}

// IsZero tells that there is no label.
func (r LabelRecord) IsZero() bool { return r.record == nil }

// Format keeps it out of logs, whatever the verb.
func (r LabelRecord) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[label record]") }

// MarshalText keeps it out of JSON.
func (r LabelRecord) MarshalText() ([]byte, error) { return []byte("[label record]"), nil }
