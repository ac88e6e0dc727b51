package spake2plus

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func scalarOf(t testing.TB, s string) scalar { return scalar(unhex(t, s)) }

func equal(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s: got %x, want %s", what, got, want)
	}
}

// rfc is Appendix C of RFC 9383 for this ciphersuite.
var rfc = map[string]string{
	"w0":       "bb8e1bbcf3c48f62c08db243652ae55d3e5586053fca77102994f23ad95491b3",
	"w1":       "7e945f34d78785b8a3ef44d0df5a1a97d6b3b460409a345ca7830387a74b1dba",
	"L":        "04eb7c9db3d9a9eb1f8adab81b5794c1f13ae3e225efbe91ea487425854c7fc00f00bfedcbd09b2400142d40a14f2064ef31dfaa903b91d1faea7093d835966efd",
	"x":        "d1232c8e8693d02368976c174e2088851b8365d0d79a9eee709c6a05a2fad539",
	"shareP":   "04ef3bd051bf78a2234ec0df197f7828060fe9856503579bb1733009042c15c0c1de127727f418b5966afadfdd95a6e4591d171056b333dab97a79c7193e341727",
	"y":        "717a72348a182085109c8d3917d6c43d59b224dc6a7fc4f0483232fa6516d8b3",
	"shareV":   "04c0f65da0d11927bdf5d560c69e1d7d939a05b0e88291887d679fcadea75810fb5cc1ca7494db39e82ff2f50665255d76173e09986ab46742c798a9a68437b048",
	"Z":        "04bbfce7dd7f277819c8da21544afb7964705569bdf12fb92aa388059408d50091a0c5f1d3127f56813b5337f9e4e67e2ca633117a4fbd559946ab474356c41839",
	"main":     "4c59e1ccf2cfb961aa31bd9434478a1089b56cd11542f53d3576fb6c2a438a29",
	"keyP":     "871ae3f7b78445e34438fb284504240239031c39d80ac23eb5ab9be5ad6db58a",
	"keyV":     "ccd53c7c1fa37b64a462b40db8be101cedcf838950162902054e644b400f1680",
	"confirmP": "926cc713504b9b4d76c9162ded04b5493e89109f6d89462cd33adc46fda27527",
	"confirmV": "9747bcc4f8fe9f63defee53ac9b07876d907d55047e6ff2def2e7529089d3e68",
	"shared":   "0c5f8ccd1413423a54f6c1fb26ff01534a87f893779c6e68666d772bfd91f3e7",
}

// K_main is a hash over V too, so that V is pinned by it.
func TestRFC9383(t *testing.T) {
	who := Parties{Context: []byte("SPAKE2+-P256-SHA256-HKDF-SHA256-HMAC-SHA256 Test Vectors"), Prover: []byte("client"), Verifier: []byte("server")}
	s := &Secrets{w0: scalarOf(t, rfc["w0"]), w1: scalarOf(t, rfc["w1"])}
	r := s.Record()
	equal(t, "L", r.l.Bytes(), rfc["L"])
	x, y := scalarOf(t, rfc["x"]), scalarOf(t, rfc["y"])
	p := newProver(s, who, x)
	equal(t, "shareP", p.Share(), rfc["shareP"])
	v, err := respond(r, who, p.Share(), y)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "shareV", v.Share(), rfc["shareV"])
	equal(t, "confirmV", v.Confirm(), rfc["confirmV"])
	confirm, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "confirmP", confirm, rfc["confirmP"])
	if err := v.Check(confirm); err != nil {
		t.Error(err)
	}
	yes := times(r.l, y).Bytes()
	k, err := schedule(who, p.share, v.share, unhex(t, rfc["Z"]), yes, s.w0)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "K_main", k.main, rfc["main"])
	equal(t, "K_confirmP", k.confirmP, rfc["keyP"])
	equal(t, "K_confirmV", k.confirmV, rfc["keyV"])
	shared, err := hkdf.Key(sha256.New, k.main, nil, "SharedKey", 32)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "K_shared", shared, rfc["shared"])
}

func orderInt() *big.Int {
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	return n
}

func checkReduce(t *testing.T, number []byte) {
	t.Helper()
	want := new(big.Int).Mod(new(big.Int).SetBytes(number), orderInt()).FillBytes(make([]byte, 32))
	if got := reduce(number); !bytes.Equal(got[:], want) {
		t.Fatalf("reduce(%x): got %x, want %x", number, got, want)
	}
}

func TestReduceAtTheEdges(t *testing.T) {
	one := big.NewInt(1)
	for _, factor := range []int64{0, 1, 2, 3, 1 << 32, 1<<62 + 5} {
		edge := new(big.Int).Mul(orderInt(), big.NewInt(factor))
		for _, n := range []*big.Int{edge, new(big.Int).Add(edge, one), new(big.Int).Sub(edge, one)} {
			if n.Sign() >= 0 {
				checkReduce(t, n.FillBytes(make([]byte, wideBytes)))
			}
		}
	}
	checkReduce(t, bytes.Repeat([]byte{0xff}, wideBytes))
}

func FuzzReduce(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0xff}, wideBytes))
	f.Add(orderInt().Bytes())
	f.Fuzz(func(t *testing.T, number []byte) {
		if len(number) <= 64 {
			checkReduce(t, number)
		}
	})
}

func testSecrets(t testing.TB, seed byte) *Secrets {
	t.Helper()
	s, err := NewSecrets(bytes.Repeat([]byte{seed}, SecretBytes))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var parties = Parties{Context: []byte("test"), Prover: []byte("p"), Verifier: []byte("v")}

// badShares are what must never be taken for a point.
func badShares(t testing.TB) map[string][]byte {
	good := NewProver(testSecrets(t, 1), parties).Share()
	flipped := bytes.Clone(good)
	flipped[64] ^= 1
	compressed := append([]byte{2 + good[64]&1}, good[1:33]...)
	hybrid := append([]byte{6 + good[64]&1}, good[1:]...)
	field := unhex(t, "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff")
	g := base(scalar{31: 1}).Bytes()
	large := append(append([]byte{4}, field...), g[33:]...) // x = p stands for 0, unreduced
	return map[string][]byte{
		"none": nil, "infinity": {0}, "infinity, padded": make([]byte, ShareBytes),
		"zero point": append([]byte{4}, make([]byte, 64)...), "not on the curve": flipped, "compressed": compressed, "hybrid": hybrid,
		"short": good[:64], "long": append(bytes.Clone(good), 0), "x not reduced": large,
		"all ones": append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...), "on the twist": append(append([]byte{4}, make([]byte, 31)...), append([]byte{1}, make([]byte, 32)...)...),
	}
}

func TestBadShares(t *testing.T) {
	s := testSecrets(t, 1)
	for name, share := range badShares(t) {
		if err := CheckShare(share); !errors.Is(err, ErrShare) {
			t.Errorf("%s: check: %v", name, err)
		}
		if _, err := Respond(s.Record(), parties, share); !errors.Is(err, ErrShare) {
			t.Errorf("%s: verifier: %v", name, err)
		}
		if _, err := NewProver(s, parties).Finish(share, make([]byte, 32)); !errors.Is(err, ErrShare) {
			t.Errorf("%s: prover: %v", name, err)
		}
	}
	// Shares of the secret alone make Z the identity.
	if _, err := Respond(s.Record(), parties, times(fixed().m, s.w0).Bytes()); !errors.Is(err, ErrShare) {
		t.Errorf("X = w0*M: %v", err)
	}
	if _, err := NewProver(s, parties).Finish(times(fixed().n, s.w0).Bytes(), make([]byte, 32)); !errors.Is(err, ErrShare) {
		t.Errorf("Y = w0*N: %v", err)
	}
	if _, err := NewSecrets(make([]byte, SecretBytes-1)); err == nil {
		t.Error("a short hash is accepted")
	}
}

func TestNothingButTheSecretProves(t *testing.T) {
	s := testSecrets(t, 1)
	other := testSecrets(t, 2)
	halved := &Secrets{w0: s.w0, w1: other.w1} // what a stolen record alone allows
	for name, c := range map[string]struct {
		prover  *Secrets
		parties Parties
	}{
		"another secret":    {other, parties},
		"w0 alone":          {halved, parties},
		"another context":   {s, Parties{Context: []byte("tess"), Prover: []byte("p"), Verifier: []byte("v")}},
		"swapped parties":   {s, Parties{Context: []byte("test"), Prover: []byte("v"), Verifier: []byte("p")}},
		"shifted boundary":  {s, Parties{Context: []byte("testp"), Verifier: []byte("v")}},
		"another verifier":  {s, Parties{Context: []byte("test"), Prover: []byte("p"), Verifier: []byte("w")}},
		"no parties at all": {s, Parties{}},
	} {
		p := NewProver(c.prover, c.parties)
		v, err := Respond(s.Record(), parties, p.Share())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Finish(v.Share(), v.Confirm()); !errors.Is(err, ErrConfirm) {
			t.Errorf("%s: the prover believes: %v", name, err)
		}
		if err := v.Check(make([]byte, ConfirmBytes)); !errors.Is(err, ErrConfirm) {
			t.Errorf("%s: the verifier believes: %v", name, err)
		}
	}
}

func TestHalvesWorkOnce(t *testing.T) {
	s := testSecrets(t, 1)
	p := NewProver(s, parties)
	v, err := Respond(s.Record(), parties, p.Share())
	if err != nil {
		t.Fatal(err)
	}
	confirm, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Finish(v.Share(), v.Confirm()); !errors.Is(err, ErrUsed) {
		t.Errorf("the prover again: %v", err)
	}
	if err := v.Check(v.Confirm()); !errors.Is(err, ErrConfirm) {
		t.Errorf("the verifier's own proof is taken for the prover's: %v", err)
	}
	if err := v.Check(confirm); !errors.Is(err, ErrUsed) {
		t.Errorf("the verifier again: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := testSecrets(t, 0x5a)
	p := NewProver(s, parties)
	v, err := Respond(s.Record(), parties, p.Share())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []any{s, *s, s.Record(), *s.Record(), p, *p, v, *v, []any{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if got := fmt.Sprintf(verb, x); !strings.Contains(got, "[secret]") || strings.Contains(got, "w0") || strings.Contains(got, "5a") {
				t.Errorf("%s of %T prints %q", verb, x, got)
			}
		}
	}
}

// example is the worked example of the protocol's documentation.
func example(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := bytes.Cut(text, []byte("## Pairing by code"))
	if !found {
		t.Fatal("no section on pairing by code")
	}
	values := map[string][]byte{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Za-z0-9]+) += ((?:[0-9a-f]{2})+)$`).FindAllSubmatch(text, -1) {
		values[string(m[1])] = unhex(t, string(m[2]))
	}
	return values
}

func TestWorkedExample(t *testing.T) {
	e := example(t)
	s, err := NewSecrets(e["K"])
	if err != nil {
		t.Fatal(err)
	}
	who := Parties{Context: e["C"], Prover: e["Fc"], Verifier: e["Fd"]}
	p := newProver(s, who, scalar(e["x"]))
	v, err := respond(s.Record(), who, p.Share(), scalar(e["y"]))
	if err != nil {
		t.Fatal(err)
	}
	confirm, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"w0": s.w0[:], "w1": s.w1[:], "X": p.Share(), "Y": v.Share(), "cV": v.Confirm(), "cP": confirm} {
		equal(t, name, got, hex.EncodeToString(e[name]))
	}
}
