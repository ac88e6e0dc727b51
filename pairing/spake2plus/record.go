package spake2plus

import (
	"errors"
	"math/bits"
	"slices"

	"encoding/binary"

	"filippo.io/nistec"
)

// RecordBytes is the size of a Record as it is kept: w0, 32 bytes big-endian, and
// L, an uncompressed point.
const RecordBytes = 32 + ShareBytes

// ErrRecord means that bytes are not those of a Record.
var ErrRecord = errors.New("not a SPAKE2+ record")

// Bytes is the record to be kept. It is a secret: a short code can be found from
// it by trying, and who has it can play the verifier.
func (r *Record) Bytes() []byte { return append(slices.Clone(r.w0[:]), r.l.Bytes()...) }

// ParseRecord reads what Bytes returned, or returns ErrRecord.
func ParseRecord(b []byte) (*Record, error) {
	if len(b) != RecordBytes {
		return nil, ErrRecord
	}
	r := &Record{w0: scalar(b[:32])}
	if !belowOrder(r.w0) {
		return nil, ErrRecord
	}
	var err error
	if r.l, err = nistec.NewP256Point().SetBytes(b[32:]); err != nil {
		return nil, ErrRecord
	}
	return r, nil
}

// belowOrder takes the same time for every number.
func belowOrder(s scalar) bool {
	var borrow uint64
	for i := range order {
		_, borrow = bits.Sub64(binary.BigEndian.Uint64(s[24-8*i:]), order[i], borrow)
	}
	return borrow == 1
}
