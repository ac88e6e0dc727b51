package spake2plus

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"sync"

	"filippo.io/nistec"
)

// A scalar is a number below the order of P-256, big-endian.
type scalar [32]byte

// wideBytes is what reduce takes.
const wideBytes = 40

// order of P-256, lowest limb first.
var order = [4]uint64{0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000}

// reduce returns a big-endian number modulo the order. Bit by bit it doubles the
// remainder, takes in the bit and subtracts the order if that leaves no borrow:
// the same instructions for every value of a length, with the choice made by a
// mask. math/bits promises that Sub64 takes no time that depends on its inputs.
// It is slow, microseconds, and done a few times an exchange.
func reduce(number []byte) scalar {
	var r [4]uint64
	for _, b := range number {
		for i := 7; i >= 0; i-- {
			r = step(r, uint64(b>>i)&1)
		}
	}
	var s scalar
	for i, limb := range r {
		binary.BigEndian.PutUint64(s[24-8*i:], limb)
	}
	return s
}

// step returns 2r + bit modulo the order, for r below it, which makes one
// subtraction enough.
func step(r [4]uint64, bit uint64) [4]uint64 {
	high := r[3] >> 63
	r[3] = r[3]<<1 | r[2]>>63
	r[2] = r[2]<<1 | r[1]>>63
	r[1] = r[1]<<1 | r[0]>>63
	r[0] = r[0]<<1 | bit
	var less [4]uint64
	var borrow uint64
	for i := range r {
		less[i], borrow = bits.Sub64(r[i], order[i], borrow)
	}
	_, below := bits.Sub64(high, 0, borrow) // 1: r was below the order
	keep := -below
	for i := range r {
		r[i] = r[i]&keep | less[i]&^keep
	}
	return r
}

// points are the constants of RFC 9383 §4 for P-256, and their negatives: the
// same x with the other y.
type points struct{ m, n, minusM, minusN *nistec.P256Point }

const (
	xOfM = "886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f"
	xOfN = "d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49"
)

var fixed = sync.OnceValue(func() points {
	return points{m: constant("02" + xOfM), n: constant("03" + xOfN), minusM: constant("03" + xOfM), minusN: constant("02" + xOfN)}
})

func constant(compressed string) *nistec.P256Point {
	b, err := hex.DecodeString(compressed)
	if err != nil {
		panic(err)
	}
	p, err := nistec.NewP256Point().SetBytes(b)
	if err != nil {
		panic(err)
	}
	return p
}

// point reads a share: 65 bytes, on the curve. The cofactor of P-256 is 1, so
// every such point is of the group; infinity and compressed points have other lengths.
func point(share []byte) (*nistec.P256Point, error) {
	if len(share) != ShareBytes {
		return nil, ErrShare
	}
	p, err := nistec.NewP256Point().SetBytes(share)
	if err != nil {
		return nil, ErrShare
	}
	return p, nil
}

func times(p *nistec.P256Point, s scalar) *nistec.P256Point {
	q, err := nistec.NewP256Point().ScalarMult(p, s[:])
	if err != nil {
		panic(err) // only for another length
	}
	return q
}

func base(s scalar) *nistec.P256Point {
	q, err := nistec.NewP256Point().ScalarBaseMult(s[:])
	if err != nil {
		panic(err) // only for another length
	}
	return q
}
