package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// A stream of events as a client reads it. It ends when the device ends it.
type stream struct {
	body   io.ReadCloser
	events chan api.Event // closed at the end
}

func (p *peer) follow(t testing.TB) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", "https://device/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("events: %d %s", answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	s := &stream{body: answer.Body, events: make(chan api.Event, 1000)}
	t.Cleanup(func() { _ = s.body.Close() })
	go s.read()
	return s
}

func (s *stream) read() {
	defer close(s.events)
	lines := bufio.NewScanner(s.body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var ev api.Event
		if err := api.Decode([]byte(data), &ev); err != nil {
			return
		}
		s.events <- ev
	}
}

// want waits for an event.
func (s *stream) want(t testing.TB, kind, what, user string) {
	t.Helper()
	for ev := range s.events {
		if ev.Kind == kind && ev.What == what && ev.User == user {
			return
		}
	}
	t.Errorf("the stream ended without %s %s of %q", kind, what, user)
}

func TestEvents(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	for _, path := range bothPaths {
		p := d.dial(t, owner.key, path)
		s := p.follow(t)
		if err := d.window.Open(); err != nil {
			t.Fatal(err)
		}
		s.want(t, "pairing", "open", "")
		d.window.Close()
		s.want(t, "pairing", "closed", "")
		bob := d.member(t, "Bob", acl.RoleAdmin, session.PathTCP)
		s.want(t, "session", "opened", "Bob")
		tunnel, err := bob.Connect(context.Background(), "echo", false)
		if err != nil {
			t.Fatal(err)
		}
		s.want(t, "tunnel", "opened", "Bob")
		_ = tunnel.Close()
		s.want(t, "tunnel", "closed", "Bob")
		owner.call("PATCH", "/v1/users/Bob", map[string]string{"role": "viewer"}, nil)
		s.want(t, "user", "changed", "Bob")
		owner.call("DELETE", "/v1/users/Bob", nil, nil)
		s.want(t, "user", "revoked", "Bob")
	}
}

func TestEventReadersAreBounded(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	var open []*stream
	for range maxReadersPerUser {
		open = append(open, owner.follow(t))
	}
	wantCode(t, "one more", owner.tryCall("GET", "/v1/events", nil, nil), api.CodeLimit)
	_ = open[0].body.Close()
	testnet.Eventually(t, "a free place", func() error {
		if n := d.events.count(); n >= maxReadersPerUser {
			return errors.New("the reader who left is still there")
		}
		return nil
	})
	owner.follow(t)
	if maxReaders != 64 {
		t.Errorf("maxReaders is %d, 64 keeps all backlogs under 2 MiB", maxReaders)
	}
}

func (e *events) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.readers)
}

// Publishing never waits for a reader, and keeps the newest.
func TestSlowEventReaderLosesTheOldest(t *testing.T) {
	var e events
	feed, stop, err := e.subscribe("Alice")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	const many = 3 * eventBacklog
	for i := range many {
		e.publish(api.Event{Detail: string(rune('a' + i%26)), Kind: "test"})
	}
	if len(feed) != eventBacklog {
		t.Errorf("%d events wait, want %d", len(feed), eventBacklog)
	}
	var last api.Event
	for range eventBacklog {
		last = <-feed
	}
	if want := string(rune('a' + (many-1)%26)); last.Detail != want {
		t.Errorf("the newest is %q, want %q", last.Detail, want)
	}
}

// A recorder notes the write deadlines that it is given.
type recorder struct {
	http.ResponseWriter
	deadline, writing time.Time // now, and when last was written
}

func (r *recorder) SetWriteDeadline(t time.Time) error { r.deadline = t; return nil }
func (r *recorder) Write(p []byte) (int, error)        { return len(p), nil }
func (r *recorder) WriteString(s string) (int, error)  { r.writing = r.deadline; return len(s), nil }
func (r *recorder) FlushError() error                  { return nil }

func TestEventsAreSentWithADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		for range 3 {
			if err := send(r, "data: {}\n\n"); err != nil {
				t.Fatal(err)
			}
			if left := time.Until(r.writing); left != eventTimeout || !r.deadline.IsZero() {
				t.Errorf("the reader has %v, want %v; and then until %v", left, eventTimeout, r.deadline)
			}
			time.Sleep(heartbeat)
		}
	})
}

// A reader of events who stops reading is let go after eventTimeout.
func TestStalledEventReaderIsLetGo(t *testing.T) {
	t.Parallel() // it waits for eventTimeout
	d := startDevice(t, "")
	owner := d.owner(t)
	conn := d.rawTLS(t, owner.key)
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, path := range bothPaths {
		r, err := http.NewRequestWithContext(ctx, "GET", "https://device/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := d.dial(t, owner.key, path).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
	}
	most := 0
	testnet.Eventually(t, "who does not read is let go", func() error {
		for range 100 {
			d.events.publish(api.Event{Kind: "test", Detail: strings.Repeat("x", 8<<10)})
		}
		n := d.events.count()
		if most = max(most, n); most < 3 || n > 0 {
			return fmt.Errorf("%d of %d readers are still there", n, most)
		}
		return nil
	})
}
