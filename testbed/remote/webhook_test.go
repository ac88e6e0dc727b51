package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
)

// A hook is the receiver of a vendor: it takes what is signed with its secret, and
// keeps the kinds.
type hook struct {
	*httptest.Server
	secretFile string

	mu    sync.Mutex
	kinds []string
	bad   []string
}

func newHook(t *testing.T, secretFile string) *hook {
	h := &hook{secretFile: secretFile}
	h.Server = httptest.NewServer(http.HandlerFunc(h.take))
	t.Cleanup(h.Close)
	return h
}

// take checks a message as any receiver of another make would (Standard Webhooks).
func (h *hook) take(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	text, _ := os.ReadFile(h.secretFile)
	secret, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "whsec_"))
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(secret) == 0 || !hmac.Equal([]byte(want), []byte(r.Header.Get("webhook-signature"))) {
		h.bad = append(h.bad, string(body))
		return
	}
	h.kinds = append(h.kinds, string(body))
}

// hears waits for an event of a kind.
func (h *hook) hears(t *testing.T, kind string) {
	t.Helper()
	testnet.Eventually(t, kind, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.bad) > 0 {
			return fmt.Errorf("not signed: %s", h.bad[0])
		}
		for _, body := range h.kinds {
			if strings.Contains(body, `"`+kind+`"`) || strings.Contains(body, `.`+kind+`"`) {
				return nil
			}
		}
		return errors.New(strings.Join(h.kinds, "\n"))
	})
}

// program starts one of ours and ends it with the test.
func program(t *testing.T, path string, args ...string) {
	t.Helper()
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = io.Discard, io.Discard
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	})
}

// What is a matter of security at a device reaches the vendor's receiver signed,
// from the real keyholed by way of the real keyhole-basestation.
func TestSecurityEventsReachTheWebhook(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "kh") // a Unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/keyholed", "../../cmd/keyhole-basestation").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	receiver := newHook(t, in("hook.secret"))
	address := "127.0.0.1:" + portOf(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("base.toml", fmt.Sprintf("[basestation]\nlisten = [%q]\n[api]\nlisten = \"\"\n[[webhook]]\nname = \"hook\"\nurl = %q\nsecret_file = %q\n", address, receiver.URL, in("hook.secret")))
	key, err := exec.Command(in("keyhole-basestation"), "key", "--data", in("data")).Output()
	if err != nil {
		t.Fatal(err)
	}
	program(t, in("keyhole-basestation"), "serve", "--config", in("base.toml"), "--data", in("data"))
	write("device.toml", fmt.Sprintf("[device]\nlisten = [\"127.0.0.1:0\"]\nstate = \"state\"\nidentity = \"identity\"\n[basestation]\naddress = %q\nkey = %q\n", address, strings.TrimSpace(string(key))))
	program(t, in("keyholed"), "run", "--config", in("device.toml"), "--socket", in("s"))

	local := control.NewClient(in("s"))
	defer local.Close()
	var status *control.Status
	testnet.Eventually(t, "the device is attached", func() (err error) {
		if status, err = local.Status(t.Context()); err == nil && status.Basestation.State != control.BasestationAttached {
			err = errors.New(status.Basestation.State + " " + status.Basestation.Error)
		}
		return err
	})
	order := func(do string) error {
		return local.Post(t.Context(), control.PairingRoute, control.PairingOrder{Do: do}, nil)
	}
	pair := func(user string, accept bool) {
		t.Helper()
		_ = order("open") // it may be open still
		pressed := make(chan struct{})
		_, err := newHome(t).Pair(t.Context(), status.Listen[0], client.PairOptions{User: user, Check: func(client.Digits) error {
			if !accept {
				close(pressed)
				return errors.New("other digits")
			}
			go func() {
				defer close(pressed)
				testnet.Until(t, "digits on the device", func() bool { return order("accept") == nil || t.Context().Err() != nil })
			}()
			return nil
		}, Dial: client.DialOptions{Find: -1}})
		<-pressed
		if accept != (err == nil) {
			t.Fatalf("%s: %v", user, err)
		}
	}
	pair("Alice", true)
	receiver.hears(t, "user.paired")
	pair("Eve", false)
	receiver.hears(t, "pairing.failed") // she did not come back
	_ = order("close")
	pair("Bob", true)
	if err := local.Post(t.Context(), control.RevokeRoute, control.Revoke{Who: "Bob"}, nil); err != nil {
		t.Fatal(err)
	}
	receiver.hears(t, "user.revoked")
	if err := local.Post(t.Context(), control.ResetRoute, map[string]string{"erase": "everything"}, nil); err != nil {
		t.Fatal(err)
	}
	receiver.hears(t, "device.reset")
}

// portOf is a port that is free.
func portOf(t *testing.T) string {
	_, port, _ := strings.Cut(closedPort(t), ":")
	return port
}
