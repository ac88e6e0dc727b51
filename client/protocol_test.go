package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// TestProtocolPage recomputes the numbers of docs/protocol.md, and looks whether
// it names what the code does.
func TestProtocolPage(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	value := func(name string) []byte {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + ` *= ([0-9a-f]{64})$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the page gives no %s", name)
		}
		b, err := hex.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h := func(domain string, names ...string) []byte {
		m := append([]byte(domain), 0)
		for _, name := range names {
			m = binary.BigEndian.AppendUint16(m, uint16(len(value(name))))
			m = append(m, value(name)...)
		}
		sum := sha256.Sum256(m)
		return sum[:]
	}
	if c := h("keyhole/1 pair button commit", "Fd", "Fc", "E", "Nc"); !bytes.Equal(c, value("C")) {
		t.Errorf("C is %x", c)
	}
	k := h("keyhole/1 pair button check", "Fd", "Fc", "E", "Nc", "Nd")
	if !bytes.Equal(k, value("K")) {
		t.Errorf("K is %x", k)
	}
	digits := pairing.Check(fmt.Sprintf("%06d", binary.BigEndian.Uint64(k)%1_000_000))
	id := identity.Fingerprint(value("fingerprint")).ID()
	for _, want := range []string{
		"digits = " + digits.Grouped() + "\n", "id          = " + string(id) + "\n",
		`"` + pairing.ExporterLabel + `"`, fmt.Sprint(DefaultPort),
		fmt.Sprintf("%.0f s from the press", pairing.WindowDuration.Seconds()), fmt.Sprintf("or after %.0f s", pairing.PressDuration.Seconds()),
		fmt.Sprintf("within %.0f s", pairing.StepDuration.Seconds()), fmt.Sprintf("at most %d KiB", api.MaxBodyBytes>>10),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, code := range []api.Code{
		api.CodeMalformed, api.CodeForbidden, api.CodeClosed, api.CodeNotFound, api.CodeMethod, api.CodeTimeout, api.CodeConflict, api.CodeNameTaken,
		api.CodeBusy, api.CodeAborted, api.CodeTooLarge, api.CodeMedia, api.CodeLimit, api.CodeInternal, api.CodeServiceDown, api.CodeUnavailable,
	} {
		if row := fmt.Sprintf("| `%s` | %d |", code, api.Problemf(code, "").Status); !strings.Contains(text, row) {
			t.Errorf("the page has no row %s", row)
		}
	}
}

// TestDigitsAreTheOnesOnThePage computes the digits of package pairing by the
// page's rule.
func TestDigitsAreTheOnesOnThePage(t *testing.T) {
	device, own, exporter := fingerprint(1), fingerprint(2), bytes.Repeat([]byte{3}, pairing.ExporterBytes)
	asker, err := pairing.NewAsker(own, device, exporter)
	if err != nil {
		t.Fatal(err)
	}
	nonce := bytes.Repeat([]byte{4}, pairing.NonceBytes)
	check, reveal, err := asker.Answer(pairing.BeginReply{Exchange: "x", Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	m := append([]byte("keyhole/1 pair button check"), 0)
	for _, field := range [][]byte{device[:], own[:], exporter, reveal.Nonce, nonce} {
		m = append(binary.BigEndian.AppendUint16(m, uint16(len(field))), field...)
	}
	sum := sha256.Sum256(m)
	if want := fmt.Sprintf("%06d", binary.BigEndian.Uint64(sum[:8])%1_000_000); string(check) != want {
		t.Errorf("digits %s, by the page %s", check, want)
	}
}
