package natsstore

import (
	"strings"
	"testing"

	"github.com/keyholed/keyhole/basestation/store"
)

// FuzzKey holds that each key has a subject of its own, which NATS takes and from
// which the key comes back, and that no other subject becomes a key.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a.b", "..", "device/abc.d/e_f-g", "$KV.keyhole.a", "a=b", "A", "a..b"} {
		f.Add(s)
	}
	l := layout{"keyhole"}
	f.Fuzz(func(t *testing.T, s string) {
		if store.CheckKey(s) == nil {
			subject := l.record(s)
			if strings.ContainsAny(subject, " *>\t\r\n") || strings.Contains(subject, "..") || strings.HasSuffix(subject, ".") {
				t.Errorf("key %q has the subject %q", s, subject)
			}
			if key, ok := l.key(subject); !ok || key != s {
				t.Errorf("key %q came back as %q, %v", s, key, ok)
			}
		}
		if key, ok := l.key(s); ok && l.record(key) != s {
			t.Errorf("subject %q became key %q", s, key)
		}
	})
}

// FuzzMark: whatever is in DIR/laid is read or refused.
func FuzzMark(f *testing.F) {
	f.Add([]byte(``))
	f.Add([]byte(`{"closed":"2026-01-02T03:04:05Z","streams":{"KV_keyhole":{"last":7,"messages":3}},"deletions":1}`))
	f.Add([]byte(`{"streams":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseMark(data); err == nil && !m.there {
			t.Errorf("%q was read as nothing", data)
		}
	})
}

// FuzzAccepted: an answer of NATS is an acknowledgement with a number, or an error.
func FuzzAccepted(f *testing.F) {
	f.Add([]byte(`{"stream":"KV_keyhole","seq":12,"batch":"x","count":3}`))
	f.Add([]byte(`{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}`))
	f.Add([]byte(`{"seq":0}`))
	f.Add([]byte(`+OK`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if accepted(data) == nil && !strings.Contains(string(data), ":") {
			t.Errorf("%q was taken for an acknowledgement", data)
		}
	})
}
