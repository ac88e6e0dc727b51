package pairing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// docs/support.md says what the code does: its worked example and its figures.
func TestDocumentedSupport(t *testing.T) {
	page, err := os.ReadFile("../docs/support.md")
	if err != nil {
		t.Fatal(err)
	}
	text := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` += ([0-9a-f]+)$`).FindSubmatch(page)
		if m == nil {
			t.Fatalf("the page gives no %s", name)
		}
		return string(m[1])
	}
	value := func(name string) []byte {
		b, err := hex.DecodeString(text(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := binding{device: identity.Fingerprint(value("Fd")), client: identity.Fingerprint(value("Fc")), exporter: value("E")}
	for name, got := range map[string][]byte{
		"K": stretch(text("P"), b.device, value("S")), "C": b.parties(supportDomain).Context, "V": b.vendorMessage(),
		"pass": SupportPass(text("call"), b.device.ID(), b.client),
	} {
		if !bytes.Equal(got, value(name)) {
			t.Errorf("%s is %x", name, got)
		}
	}
	for _, want := range []string{
		fmt.Sprintf("%d random digits", SupportDigits), fmt.Sprintf("%.0f minutes to claim", SupportCodeDuration.Minutes()), fmt.Sprintf("%d a code;", TriesPerSupportCode),
		fmt.Sprintf("%d an hour, %d a day", SupportCodesPerHour, SupportCodesPerDay), fmt.Sprintf("kept every %.0f minutes", youngEvery.Minutes()),
		fmt.Sprintf("%.0f minutes on the monotonic clock", SupportDuration.Minutes()), fmt.Sprintf("at most %d times a session", ControlsPerSession),
		fmt.Sprintf("%d chances in a million", TriesPerSupportCode*SupportCodesPerDay), fmt.Sprintf("digits = %d", SupportDigits), fmt.Sprintf("%d only with a key", SupportDigitsShort),
	} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
