package pairing

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// With a vendor's key four digits are enough, and who does not have it tries nothing.
func TestSupportVendorKey(t *testing.T) {
	vendor, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	h := newHelpline(t, func(c *SupportConfig) { c.Digits, c.Vendor = SupportDigitsShort, vendor.Fingerprint() })
	code := h.shows(t)
	if len(code.digits) != 4 || code.Grouped() != code.digits || !h.WantsVendor() {
		t.Errorf("%d digits", len(code.digits))
	}
	proof := func(k *identity.Key, c Caller) VendorProof {
		p, err := NewVendorProof(k, c.Fingerprint, deviceKey, c.Exporter)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, p := range map[string]VendorProof{
		"none": {}, "another key's": proof(other, hotline(1)), "of another session": proof(vendor, hotline(2)),
		"too long": {PublicKey: make([]byte, 5000), Signature: make([]byte, 5000)},
	} {
		for range 5 {
			if err := h.claims(t, hotline(1), code, p); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := h.claims(t, hotline(1), code, proof(vendor, hotline(1))); err != nil {
		t.Errorf("with the key: %v", err)
	}
	if _, err := NewSupport(SupportConfig{Device: deviceKey, Ledger: &shelf{}, Supporter: &desk{}, Digits: 4}); err == nil {
		t.Error("four digits without a key")
	}
}

func TestSupportCodes(t *testing.T) {
	for typed, want := range map[string]string{"204862": "204862", " 204 862\n": "204862", "204-862": "204862", "2048": "2048", "20486": "", "2048622": "", "": "", "20486a": "", strings.Repeat(" ", 90) + "204862": ""} {
		c, err := ParseSupportCode(typed)
		if c.digits != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", typed, c.digits, err)
		}
	}
	c := SupportCode{"204862"}
	text, _ := c.MarshalText()
	for _, shown := range []string{fmt.Sprintf("%v %s %d %#v", c, c, c, c), c.String(), string(text), fmt.Sprint(slog.AnyValue(c))} {
		if strings.Contains(shown, "204") {
			t.Errorf("a code prints: %s", shown)
		}
	}
	if c.Grouped() != "204 862" || (SupportCode{}).Grouped() != "" {
		t.Error(c.Grouped())
	}
	seen := map[SupportCode]bool{}
	for range 100 {
		seen[randomSupportCode(SupportDigits)] = true
	}
	if len(seen) < 95 {
		t.Errorf("%d different codes of 100", len(seen))
	}
}

func TestSupportFigures(t *testing.T) {
	for what, ok := range map[string]bool{
		"five minutes to claim": SupportCodeDuration == 5*time.Minute, "half an hour": SupportDuration == 30*time.Minute,
		"three tries": TriesPerSupportCode == 3, "three an hour": SupportCodesPerHour == 3, "ten a day": SupportCodesPerDay == 10,
		"six digits": SupportDigits == 6, "four digits": SupportDigitsShort == 4, "a minute to allow control": ControlDuration == time.Minute,
		"asked three times": ControlsPerSession == 3,
	} {
		if !ok {
			t.Error(what)
		}
	}
}
