package spake2plus

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"
)

// The same protocol from schoolbook arithmetic: affine points of math/big, with
// subtraction where the package uses negative constants.

type affine struct{ x, y *big.Int } // x nil: infinity

func number(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic(s)
	}
	return n
}

var (
	fieldP = number("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff")
	gBase  = affine{number("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"), number("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")}
	curveB = number("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
)

func mod(n *big.Int) *big.Int { return n.Mod(n, fieldP) }

func lift(x string, odd uint) affine {
	a := number(x)
	y := new(big.Int).Exp(a, big.NewInt(3), fieldP)
	y.Sub(y, new(big.Int).Mul(big.NewInt(3), a)).Add(y, curveB)
	y.ModSqrt(mod(y), fieldP)
	if y.Bit(0) != odd {
		y.Sub(fieldP, y)
	}
	return affine{a, y}
}

func (a affine) neg() affine {
	if a.x == nil {
		return a
	}
	return affine{a.x, mod(new(big.Int).Neg(a.y))}
}

func (a affine) add(b affine) affine {
	switch {
	case a.x == nil:
		return b
	case b.x == nil:
		return a
	}
	var slope *big.Int
	if a.x.Cmp(b.x) == 0 {
		if a.y.Cmp(b.y) != 0 || a.y.Sign() == 0 {
			return affine{}
		}
		top := new(big.Int).Mul(big.NewInt(3), new(big.Int).Mul(a.x, a.x))
		slope = mod(top.Sub(top, big.NewInt(3)).Mul(top, new(big.Int).ModInverse(new(big.Int).Lsh(a.y, 1), fieldP)))
	} else {
		under := mod(new(big.Int).Sub(b.x, a.x))
		slope = mod(new(big.Int).Mul(new(big.Int).Sub(b.y, a.y), under.ModInverse(under, fieldP)))
	}
	x := mod(new(big.Int).Sub(new(big.Int).Sub(new(big.Int).Mul(slope, slope), a.x), b.x))
	y := mod(new(big.Int).Sub(new(big.Int).Mul(slope, new(big.Int).Sub(a.x, x)), a.y))
	return affine{x, y}
}

func (a affine) mul(k *big.Int) (sum affine) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum = sum.add(sum)
		if k.Bit(i) == 1 {
			sum = sum.add(a)
		}
	}
	return sum
}

func (a affine) bytes() []byte {
	if a.x == nil {
		return []byte{0}
	}
	return append(a.x.FillBytes(append([]byte{4}, make([]byte, 64)...)[1:33:33]), a.y.FillBytes(make([]byte, 32))...)
}

func (a affine) encoded() []byte {
	if a.x == nil {
		return a.bytes()
	}
	return append([]byte{4}, a.bytes()...)
}

// refer returns X, Y, cV, cP, once with the prover's Z and V and checked against the verifier's.
func refer(t *testing.T, hash []byte, who Parties, xs, ys scalar) [4][]byte {
	n := orderInt()
	w0 := new(big.Int).Mod(new(big.Int).SetBytes(hash[:40]), n)
	w1 := new(big.Int).Mod(new(big.Int).SetBytes(hash[40:]), n)
	x, y := new(big.Int).SetBytes(xs[:]), new(big.Int).SetBytes(ys[:])
	m, k := lift(xOfM, 0), lift(xOfN, 1)
	bigX := gBase.mul(x).add(m.mul(w0))
	bigY := gBase.mul(y).add(k.mul(w0))
	yn := bigY.add(k.mul(w0).neg())
	z, v := yn.mul(x), yn.mul(w1)
	if zv := bigX.add(m.mul(w0).neg()).mul(y); !bytes.Equal(zv.bytes(), z.bytes()) {
		t.Fatal("the reference does not agree with itself")
	}
	var tt []byte
	for _, f := range [][]byte{who.Context, who.Prover, who.Verifier, m.encoded(), k.encoded(), bigX.encoded(), bigY.encoded(), z.encoded(), v.encoded(), w0.FillBytes(make([]byte, 32))} {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(f)))
		tt = append(append(tt, size[:]...), f...)
	}
	main := sha256.Sum256(tt)
	keys, err := hkdf.Key(sha256.New, main[:], nil, "ConfirmationKeys", 64)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(key, text []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(text)
		return h.Sum(nil)
	}
	return [4][]byte{bigX.encoded(), bigY.encoded(), sum(keys[32:], bigX.encoded()), sum(keys[:32], bigY.encoded())}
}

func stretchTo(seed []byte, size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	for i := byte(0); len(out) < size; i++ {
		h := sha256.Sum256(append([]byte{i}, seed...))
		out = append(out, h[:]...)
	}
	return out[:size]
}

// FuzzBothRoles holds prover and verifier against the reference.
func FuzzBothRoles(f *testing.F) {
	for _, seed := range []string{"", "a", "12345678", "a longer seed with some text"} {
		f.Add([]byte(seed), []byte("context"), []byte("client"), []byte("server"))
	}
	f.Fuzz(func(t *testing.T, seed, context, prover, verifier []byte) {
		if len(context)+len(prover)+len(verifier) > 1<<12 {
			return
		}
		who := Parties{context, prover, verifier}
		all := stretchTo(seed, SecretBytes+2*wideBytes)
		x, y := reduce(all[SecretBytes:SecretBytes+wideBytes]), reduce(all[SecretBytes+wideBytes:])
		want := refer(t, all[:SecretBytes], who, x, y)
		s, err := NewSecrets(all[:SecretBytes])
		if err != nil {
			t.Fatal(err)
		}
		p := newProver(s, who, x)
		v, err := respond(s.Record(), who, p.Share(), y)
		if err != nil {
			t.Fatal(err)
		}
		confirm, err := p.Finish(v.Share(), v.Confirm())
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range [][]byte{p.Share(), v.Share(), v.Confirm(), confirm} {
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("message %d: got %x, want %x", i, got, want[i])
			}
		}
		if err := v.Check(confirm); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzShares gives both roles shares of strangers.
func FuzzShares(f *testing.F) {
	for _, share := range badShares(f) {
		f.Add(share)
	}
	f.Add(base(scalar{31: 7}).Bytes())
	s := testSecrets(f, 1)
	f.Fuzz(func(t *testing.T, share []byte) {
		on := len(share) == ShareBytes && share[0] == 4
		if on {
			x, y := new(big.Int).SetBytes(share[1:33]), new(big.Int).SetBytes(share[33:])
			left := mod(new(big.Int).Mul(y, y))
			right := new(big.Int).Exp(x, big.NewInt(3), fieldP)
			right.Sub(right, new(big.Int).Mul(big.NewInt(3), x)).Add(right, curveB)
			on = x.Cmp(fieldP) < 0 && y.Cmp(fieldP) < 0 && left.Cmp(mod(right)) == 0
		}
		if err := CheckShare(share); (err == nil) != on {
			t.Fatalf("share %x: %v", share, err)
		}
		if _, err := Respond(s.Record(), parties, share); (err == nil) != on {
			t.Fatalf("verifier, share %x: %v", share, err)
		}
		if _, err := NewProver(s, parties).Finish(share, nil); err == nil {
			t.Fatalf("a prover believes %x", share)
		}
	})
}
