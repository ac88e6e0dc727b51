package attach

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholed/keyhole/protocol/identity"
)

// count returns n bytes that count upwards from first.
func count(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func goldenCertificate(t testing.TB) []byte {
	t.Helper()
	b, err := SignCertificate(rootKey(t, 1), Certificate{
		Generation: 5, Floor: 4, Key: [32]byte(count(0x20, 32)),
		Addresses: []netip.AddrPort{nodeAddress, netip.MustParseAddrPort("[2001:db8::1]:443")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenPass is that of an Ed25519 key, whose signatures are always the same.
func goldenPass(t testing.TB) []byte {
	t.Helper()
	pass, err := NewPresencePass(rootKey(t, 3), 5, identity.Fingerprint(count(0x40, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return pass
}

// goldenPackets are one of each packet, frame and body, by name.
func goldenPackets(t testing.TB) map[string][]byte {
	t.Helper()
	encode := func(v any) []byte {
		b, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h := hello{version: 1, index: 0x0102030405060708, cookie: cookie(count(0x40, cookieSize))}
	sealed, err := seal(newCipher([32]byte(count(0, 32))), nil, head{kindToNode, 0x0102030405060708, 9}, []byte{frameClose, 1})
	if err != nil {
		t.Fatal(err)
	}
	greeting, state, err := greet(bytes.NewReader(count(0x80, 32)), mustPublic(t, Secret{7}), h)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseHello(greeting)
	if err != nil {
		t.Fatal(err)
	}
	node, err := newResponder(Secret{7})
	if err != nil {
		t.Fatal(err)
	}
	answer, k, err := receive(bytes.NewReader(count(0xa0, 32)), node, greeting, parsed, 0x1112131415161718)
	if err != nil {
		t.Fatal(err)
	}
	w, err := parseWelcome(answer)
	if err != nil {
		t.Fatal(err)
	}
	if got, index, err := welcomed(state, w.noise); err != nil || got != k || index != 0x1112131415161718 {
		t.Fatalf("welcomed: %v, %#x, want the node's keys", err, index)
	}
	offer := Offer{PublicKey: count(1, 4), Signature: count(5, 4), Transport: TCP, Candidates: EncodeAddresses([]netip.AddrPort{nodeAddress})}
	question := &Introduce{PublicKey: count(1, 4), Signature: count(5, 4), Device: "abcdefghijklmnopqrstuvwxyz", Pass: []byte("pass")}
	introduction := NewIntroduction(7, [32]byte(count(0, 32)), question, nodeAddress)
	introduction.Grant = []byte("grant")
	ticket := Ticket(count(0x30, 32))
	return map[string][]byte{
		"INTRODUCTION": encode(introduction),
		"ANSWER":       encode(Answer{Request: 7, Verdict: VerdictYes, Offer: offer}),
		"ANSWER no":    encode(Answer{Request: 7, Verdict: VerdictNo}),
		"INTRODUCED": encode(Introduced{Offer: offer, Observed: Address{nodeAddress}, Ticket: ticket,
			Certificate: goldenCertificate(t)}),
		"NOT INTRODUCED":         encode(NotIntroduced{Verdict: VerdictNo}),
		"NOT INTRODUCED offline": encode(NotIntroduced{VerdictOffline, 1_800_000_000, CloseSilent}),
		"CANDIDATES":             encode(Candidates{7, offer}),
		"RELAY":                  encode(Relay{7, ticket}),
		"EVENT":                  encode(Event{9, "motion", []byte(`{"zone":1}`)}),
		"EVENT TAKEN":            encode(EventTaken{9}),
		"PRESENCE":               encode(Presence{3}),
		"TICKET":                 encode(TicketRequest{}),
		"TICKET GRANTED":         encode(TicketGranted{ticket}),
		"TICKET GRANTED no":      encode(TicketGranted{}),
		"CALL":                   encode(Call{Request: 9}),
		"CALL over":              encode(Call{Over: "204862"}),
		"CALL NUMBER":            encode(CallNumber{9, "204862", 300}),
		"CALL NUMBER no":         encode(CallNumber{Request: 9}),
		"FIND":                   encode(Find{"204862"}),
		"FOUND":                  encode(Found{"abcdefghijklmnopqrstuvwxyz"}),
		"FOUND nobody":           encode(Found{}),
		"offer, signed bytes":    offer.bytes([32]byte(count(0, 32)), "abcdefghijklmnopqrstuvwxyz", [32]byte(count(0x40, 32)), [32]byte(count(0x60, 32))),
		"presence pass":          goldenPass(t),
		"punch":                  Punch{PunchTokenOf([32]byte(count(0, 32))), 0x0102030405060708, 0x1112131415161718}.Append(nil),
		"stream, attach":         AppendPacket(AppendPreface(nil, StreamAttach), []byte{kindReset, 1, 2}),
		"stream, relay":          AppendRelayPreface(nil, ticket),
		"stream, observe":        AppendPreface(nil, StreamObserve),
		"stream, seen":           AppendSeen(nil, netip.MustParseAddrPort("[2001:db8::1]:443")),
		"LOCATE":                 locate{0x0102030405060708, 0xabcd}.append(nil),
		"LOCATED":                located{0x0102030405060708, cookie(count(0x40, cookieSize)), goldenCertificate(t)}.append(nil),
		"HELLO":                  greeting,
		"WELCOME":                answer,
		"RETRY":                  retry{1, 0x0102030405060708, cookie(count(0x40, cookieSize))}.append(nil),
		"RESET":                  reset{0x0102030405060708, token(count(0x60, tokenSize)), 300}.append(nil),
		"sealed":                 sealed,
		"PING":                   beat{0x0102, 25, 30}.append(nil, framePing),
		"PONG":                   beat{0x0102, 25, 30}.append(nil, framePong),
		"CONTROL":                control{7, KindRelocate, encode(Relocate{60})}.append(nil),
		"ACK":                    ack{7, 0b1010}.append(nil),
		"CLOSE":                  {frameClose, byte(CloseMoved)},
		"certificate":            goldenCertificate(t),
		"handshake":              k.hash[:],
		"ATTACH": encode(Attach{PublicKey: count(1, 4), Signature: count(5, 4), Serial: "SN-1", Proof: count(9, 32),
			Previous: count(41, 16), Interval: 30, Firmware: "1.2.3", Boots: 7}),
		"INTRODUCE": encode(Introduce{PublicKey: count(1, 4), Signature: count(5, 4), Device: "abcdefghijklmnopqrstuvwxyz",
			Candidates: [][]byte{{192, 0, 2, 9, 0x1d, 0x13}}, Pass: []byte("pass"), Presence: []byte("presence")}),
		"ATTACHED": encode(Attached{Token: count(1, 16), Observed: Address{nodeAddress}, Unix: 1_800_000_000}),
		"REFUSED":  encode(Refused{Code: CodeDuplicate, After: 60}),
		"OBSERVED": encode(Observed{Address{nodeAddress}}),
		"RELOCATE": encode(Relocate{60}),
	}
}

// The bytes of this protocol are those of testdata/golden.txt: a change of them is a
// change of the protocol. KEYHOLE_GOLDEN=write writes the file.
func TestGoldenBytes(t *testing.T) {
	const path = "testdata/golden.txt"
	got := goldenPackets(t)
	names := []string{"LOCATE", "LOCATED", "HELLO", "WELCOME", "RETRY", "RESET", "sealed", "PING", "PONG", "CONTROL", "ACK", "CLOSE",
		"certificate", "handshake", "ATTACH", "INTRODUCE", "ATTACHED", "REFUSED", "OBSERVED", "RELOCATE",
		"INTRODUCTION", "ANSWER", "ANSWER no", "INTRODUCED", "NOT INTRODUCED", "NOT INTRODUCED offline", "CANDIDATES", "RELAY", "EVENT",
		"EVENT TAKEN", "PRESENCE", "TICKET", "TICKET GRANTED", "TICKET GRANTED no", "CALL", "CALL over", "CALL NUMBER", "CALL NUMBER no", "FIND", "FOUND", "FOUND nobody", "offer, signed bytes", "presence pass", "punch",
		"stream, attach", "stream, relay", "stream, observe", "stream, seen"}
	if len(names) != len(got) {
		t.Fatalf("%d names for %d packets", len(names), len(got))
	}
	var text strings.Builder
	for _, name := range names {
		text.WriteString(name + " " + hex.EncodeToString(got[name]) + "\n")
	}
	if os.Getenv("KEYHOLE_GOLDEN") == "write" {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("the bytes of the protocol changed (-want +got):\n%s", diff)
	}
}

// Sizes that the documentation states.
func TestSizes(t *testing.T) {
	p := goldenPackets(t)
	for name, want := range map[string]int{"LOCATE": 256, "HELLO": 75, "WELCOME": 65, "RETRY": 27, "RESET": 27, "PING": 7, "ACK": 9} {
		if len(p[name]) != want {
			t.Errorf("%s has %d bytes, want %d", name, len(p[name]), want)
		}
	}
	switch {
	case locatedHead+maxCertificate > locateSize:
		t.Error("LOCATED may be larger than LOCATE")
	case welcomeSize > helloSize || retrySize > helloSize:
		t.Error("an answer to HELLO may be larger than it")
	case resetSize > minPacket:
		t.Error("RESET may be larger than what caused it")
	}
	// The attaches of a device with a P-256 key and a client with RSA 4096 fit.
	for name, v := range map[string]any{
		"device, P-256": Attach{PublicKey: make([]byte, 91), Signature: make([]byte, 72), Serial: strings.Repeat("x", 64),
			Proof: make([]byte, 32), Previous: make([]byte, 16), Interval: 600, Firmware: strings.Repeat("x", 64), Boots: 1 << 31},
		"client, RSA 4096, at its node": Introduce{PublicKey: make([]byte, 550), Signature: make([]byte, 512),
			Device: identity.ID(strings.Repeat("a", 26)), Candidates: [][]byte{make([]byte, 18), make([]byte, 18), make([]byte, 18)}},
	} {
		if _, err := Encode(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustPublic(t testing.TB, s Secret) [32]byte {
	t.Helper()
	p, err := PublicKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
