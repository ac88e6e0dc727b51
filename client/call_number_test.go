package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

func TestParseCallNumber(t *testing.T) {
	for typed, want := range map[string]string{
		"123456": "123456", " 123 456\n": "123456", "123-456\r\n": "123456", "": "", "12345": "", "1234567": "", "12345x": "", "１２３４５６": "", strings.Repeat("1", 500): "",
	} {
		got, err := ParseCallNumber(typed)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrNotCallNumber) {
			t.Errorf("%.20q: %q, %v", typed, got, err)
		}
	}
}

// Without a basestation that can be asked nobody is asked.
func TestFindCallNeedsABasestation(t *testing.T) {
	h, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []Basestation{{Addresses: []string{"127.0.0.1:1"}}, {Addresses: []string{"nonsense"}, Keys: []string{"x"}}} {
		if _, err := h.FindCall(context.Background(), b, "123456", nil); err == nil {
			t.Errorf("%+v was asked", b)
		}
		if _, err := h.DialStranger(context.Background(), "mfrggzdfmztwq2lknnwg23tpob", b, nil, DialOptions{}); err == nil {
			t.Errorf("%+v was asked", b)
		}
	}
	if _, err := h.DialStranger(context.Background(), identity.ID("x"), Basestation{}, nil, DialOptions{}); err == nil {
		t.Error("a device without an id")
	}
}
