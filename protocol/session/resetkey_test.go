package session

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A device that lost its memory, and not its reset key, answers the first
// packet of a former session with its end. Without, a client waits a minute.
func TestRestartedDeviceIsNoticedAtOnce(t *testing.T) {
	config := Config{Key: newKey(t), ResetKey: ResetKey{1, 2, 3}}
	before, after := startDeviceOf(t, config), startDeviceOf(t, config)
	w := newUDPWire(t, before.quic)
	c, err := Dial(context.Background(), []string{w.address()}, DialConfig{
		Key: newKey(t), Pin: identity.PinFingerprint(config.Key.Fingerprint()), Paths: []Path{PathQUIC},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get(t, c, "/")
	w.lead(t, after.quic)
	ctx, cancel := context.WithTimeout(context.Background(), quicIdle/4)
	defer cancel()
	began := time.Now()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://ignored/", nil)
	if _, err := c.RoundTrip(r); err == nil || ctx.Err() != nil {
		t.Errorf("request on the dead session: %v", err)
	}
	select {
	case <-c.Done():
		t.Logf("noticed after %v: %v", time.Since(began), c.Err())
	case <-ctx.Done():
		t.Error("the client did not notice")
	}
}

func TestResetKeyIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quic.key")
	first, err := LoadResetKey(path)
	if err != nil || first == (ResetKey{}) {
		t.Fatalf("first: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, err := LoadResetKey(path); err != nil || again != first {
		t.Errorf("again: another key, %v", err)
	}
	if err := os.WriteFile(path, first[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := LoadResetKey(path)
	if err != nil || other == first || other == (ResetKey{}) {
		t.Errorf("a broken file was not replaced: %v", err)
	}
	if again, err := LoadResetKey(path); err != nil || again != other {
		t.Errorf("the replacement was not kept: %v", err)
	}
	nowhere, err := LoadResetKey(filepath.Join(path, "below a file"))
	if err == nil || nowhere == (ResetKey{}) {
		t.Errorf("where nothing can be kept: %v, want an error and a key", err)
	}
	if first.derive("a") == first.derive("b") {
		t.Error("two purposes share a key")
	}
}

func TestResetKeyDoesNotPrint(t *testing.T) {
	k := ResetKey{0xab, 0xcd}
	in := struct{ K ResetKey }{k}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "in", in)
	out := fmt.Sprintf("%v %+v %#v %x %d %s %v %+v %#v", k, k, k, k, k, k, in, in, in) + string(b) + log.String()
	for _, bad := range []string{"abcd", "171", "ab cd", "0xab"} {
		if strings.Contains(strings.ToLower(out), bad) {
			t.Errorf("%q is in %s", bad, out)
		}
	}
}
