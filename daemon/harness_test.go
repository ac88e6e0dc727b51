package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A device is a real Daemon: its sockets, files and tasks are those of keyholed.
type device struct {
	*Daemon
	dir  string
	stop func() error // ends Run and returns what it returned; may be called again
}

// text is a configuration in dir with some more TOML behind it. Keys of [device]
// come first.
func text(dir, more string) string {
	return fmt.Sprintf(`
[device]
name = "Front door"
product = "acme-cam-2"
listen = ["127.0.0.1:0"]
state = %q
identity = %q
%s`, filepath.Join(dir, "state"), filepath.Join(dir, "identity"), more)
}

const simulated = "[board]\nprofile = \"simulated\"\n"

func parse(t testing.TB, dir, toml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse([]byte(toml), filepath.Join(dir, "keyholed.toml"), config.Overrides{Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startDevice runs a daemon with some more TOML until the test ends.
func startDevice(t testing.TB, more string) *device {
	t.Helper()
	dir := shortDir(t)
	return startIn(t, dir, text(dir, more))
}

// shortDir is a TempDir for sockets: their paths are at most 107 bytes, and names
// of tests are long.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startIn(t testing.TB, dir, toml string) *device {
	t.Helper()
	d, err := tryStart(t, dir, toml)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tryStart returns once the daemon is ready, or what Run returned instead.
func tryStart(t testing.TB, dir, toml string) (*device, error) {
	t.Helper()
	d, err := New(Options{Config: parse(t, dir, toml), Quiet: true, Log: testLog(t)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var result error
	over := false
	stop := func() error {
		if !over {
			cancel()
			result, over = <-ended, true
		}
		return result
	}
	select {
	case <-d.Ready():
	case err := <-ended:
		cancel()
		return nil, err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, ErrReset) {
			t.Errorf("Run: %v", err)
		}
	})
	return &device{Daemon: d, dir: dir, stop: stop}, nil
}

// testLog is silent unless KEYHOLE_LOG is set.
func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("KEYHOLE_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A peer is one key with a session.
type peer struct {
	*session.Client
	t    testing.TB
	key  *identity.Key
	name string
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *device) address() string { return fmt.Sprintf("127.0.0.1:%d", d.Port()) }

func (d *device) dial(t testing.TB, k *identity.Key, path session.Path) *peer {
	t.Helper()
	p, err := d.tryDial(t, k, path, -1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (d *device) tryDial(t testing.TB, k *identity.Key, path session.Path, warm int) (*peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := session.Dial(ctx, []string{d.address()}, session.DialConfig{
		Key: k, Pin: identity.PinFingerprint(d.Fingerprint()), Paths: []session.Path{path}, WarmConns: warm,
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(c.Close)
	return &peer{Client: c, t: t, key: k}, nil
}

// ask makes a request and returns the whole answer.
func (p *peer) ask(method, path string, body any) (*http.Response, []byte) {
	p.t.Helper()
	r, data, err := p.tryAsk(method, path, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r, data
}

func (p *peer) tryAsk(method, path string, body any) (*http.Response, []byte, error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		sent = bytes.NewReader(data)
	}
	r, err := http.NewRequest(method, "https://device"+path, sent)
	if err != nil {
		return nil, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return answer, data, err
}

// call makes a request, decodes the answer strictly into out, and fails the test
// if the answer is not a success.
func (p *peer) call(method, path string, body, out any) {
	p.t.Helper()
	if err := p.tryCall(method, path, body, out); err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// tryCall returns a *api.Problem for an answer that is not a success.
func (p *peer) tryCall(method, path string, body, out any) error {
	r, data, err := p.tryAsk(method, path, body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return api.ReadProblem(r.StatusCode, r.Header.Get("Content-Type"), bytes.NewReader(data))
	}
	if out == nil {
		return nil
	}
	return api.Decode(data, out)
}

// begin does the client's half of pairing up to the digits.
func (p *peer) begin(user string) (check pairing.Check, reveal api.ButtonReveal, err error) {
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return "", reveal, err
	}
	asker, err := pairing.NewAsker(p.key.Fingerprint(), p.Peer(), exporter)
	if err != nil {
		return "", reveal, err
	}
	var challenge api.ButtonChallenge
	err = p.tryCall("POST", "/v1/pair/button", api.ButtonBegin{
		Commitment: hex.EncodeToString(asker.Commitment()), Name: user + "'s laptop", User: user,
	}, &challenge)
	if err != nil {
		return "", reveal, err
	}
	nonce, err := hex.DecodeString(challenge.Nonce)
	if err != nil {
		return "", reveal, err
	}
	check, answer, err := asker.Answer(pairing.BeginReply{Exchange: challenge.Exchange, Nonce: nonce})
	return check, api.ButtonReveal{Exchange: answer.Exchange, Nonce: hex.EncodeToString(answer.Nonce)}, err
}

// A result is what a reveal ended with.
type result struct {
	paired api.Paired
	err    error
}

// reveal reveals in the background and returns when the device shows the digits.
func (d *device) reveal(p *peer, reveal api.ButtonReveal) <-chan result {
	p.t.Helper()
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = p.tryCall("POST", "/v1/pair/button/reveal", reveal, &r.paired)
		done <- r
	}()
	testnet.Eventually(p.t.(*testing.T), "digits on the status", func() error {
		if d.Status().Pairing.Asking == nil && len(done) == 0 {
			return errors.New("nobody asks")
		}
		return nil
	})
	return done
}

// pair enters a peer by the window, without the board's buttons.
func (d *device) pair(p *peer, user string) api.Paired {
	p.t.Helper()
	if err := d.window.Open(); err != nil {
		p.t.Fatal(err)
	}
	_, reveal, err := p.begin(user)
	if err != nil {
		p.t.Fatalf("begin: %v", err)
	}
	done := d.reveal(p, reveal)
	d.window.Accept(p.key.Fingerprint())
	r := <-done
	if r.err != nil {
		p.t.Fatalf("reveal: %v", r.err)
	}
	p.name = r.paired.User
	return r.paired
}

// owner dials and pairs the first user.
func (d *device) owner(t testing.TB) *peer {
	t.Helper()
	p := d.dial(t, newKey(t), session.PathTCP)
	if got := d.pair(p, "Alice"); got.Role != acl.RoleOwner {
		t.Fatalf("the first user is %q, want owner", got.Role)
	}
	return p
}

// enter puts a key on the list without pairing.
func (d *device) enter(t testing.TB, user, role string) *identity.Key {
	t.Helper()
	k := newKey(t)
	if _, err := d.store.Enter(acl.Newcomer{Fingerprint: k.Fingerprint(), User: user, KeyName: "key", Role: role}, acl.By{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	return k
}

// member enters a user and dials.
func (d *device) member(t testing.TB, user, role string, path session.Path) *peer {
	t.Helper()
	k := d.enter(t, user, role)
	p := d.dial(t, k, path)
	p.name = user
	return p
}

func (d *device) control() *control.Client { return control.NewClient(filepath.Join(d.dir, "s")) }

// echo is a TCP service that sends back what comes. It counts connections.
func echo(t testing.TB) *service {
	t.Helper()
	return listen(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// A service listens on loopback and is what a configuration names.
type service struct {
	net.Listener
	address string
	conns   chan net.Conn // each connection as it comes, as far as there is room
}

func listen(t testing.TB, serve func(net.Conn)) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Listener: l, address: l.Addr().String(), conns: make(chan net.Conn, 1024)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case s.conns <- c:
			default:
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return s
}

func serviceTOML(name, kind, address string) string {
	return fmt.Sprintf("[[service]]\nname = %q\ntype = %q\naddress = %q\n", name, kind, address)
}

func wantCode(t testing.TB, what string, err error, code api.Code) {
	t.Helper()
	if !api.IsCode(err, code) {
		t.Errorf("%s: got %v, want %s", what, err, code)
	}
}

func contains(t testing.TB, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: %q does not contain %q", what, text, want)
	}
}

// decodeLoose reads JSON of which only some is of interest.
func decodeLoose(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func lower(s string) string { return strings.ToLower(s) }

// newOf returns a pointer to a new value of v's type, nil for nil.
func newOf(v any) any {
	if v == nil {
		return nil
	}
	return reflect.New(reflect.TypeOf(v)).Interface()
}
