package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const device = "abcdefghijklmnopqrstuvwxyz"

func secrets(t *testing.T, name string) Secrets {
	t.Helper()
	s, err := LoadSecrets(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// receiver is a server that remembers what it took and misbehaves as told.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	tries int
	taken []Event
	raw   []http.Header
	body  [][]byte
}

// receive starts one. answer is asked for each try, counted from 1, and reports
// whether the event counts as taken.
func receive(t *testing.T, answer func(try int, w http.ResponseWriter, r *http.Request) bool) *receiver {
	t.Helper()
	rec := &receiver{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.tries++
		try := rec.tries
		rec.mu.Unlock()
		if !answer(try, w, r) {
			return
		}
		var e Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.taken, rec.raw, rec.body = append(rec.taken, e), append(rec.raw, r.Header.Clone()), append(rec.body, body)
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, e := range r.taken {
		ids = append(ids, e.ID)
	}
	return ids
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

func fine(int, http.ResponseWriter, *http.Request) bool { return true }

// running is a Pusher at work; stop ends it and waits.
func running(t *testing.T, c Config) (p *Pusher, stop func()) {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range p.hooks {
		h.first = time.Millisecond
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

func openStore(t *testing.T) *memstore.Store {
	s := memstore.New()
	t.Cleanup(func() { s.Close() })
	return s
}

func push(t *testing.T, p *Pusher, e Event) {
	t.Helper()
	if err := p.Push(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// What the receiver sees is signed, over all that matters, and can be checked
// with nothing but the documentation.
func TestReceiverCanCheckTheSignature(t *testing.T) {
	rec := receive(t, fine)
	both := append(secrets(t, "new"), secrets(t, "old")...)
	p, _ := running(t, Config{Store: openStore(t), Node: "n1", Webhooks: []Webhook{{Name: "crm", URL: rec.URL, Secrets: both}}})
	push(t, p, Event{Kind: KindGone, Device: device, Data: json.RawMessage(`{"reason":"silent"}`)})
	testnet.Eventually(t, "delivery", func() error {
		if len(rec.ids()) != 1 {
			return fmt.Errorf("%d events", len(rec.ids()))
		}
		return nil
	})
	e, header, body := rec.taken[0], rec.raw[0], rec.body[0]
	if e.Kind != KindGone || e.Device != device || e.Node != "n1" || string(e.Data) != `{"reason":"silent"}` || time.Since(e.Time) > time.Minute {
		t.Errorf("got %+v", e)
	}
	if header.Get(headerID) != e.ID || header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", header)
	}
	for i, secret := range both {
		if !verify(secret, header, body) {
			t.Errorf("secret %d does not verify", i)
		}
		if verify(secret, header, append([]byte(" "), body...)) {
			t.Error("another body verifies")
		}
	}
	for _, changed := range []string{headerID, headerTime} {
		h := header.Clone()
		h.Set(changed, "1")
		if verify(both[0], h, body) {
			t.Errorf("another %s verifies", changed)
		}
	}
}

// A receiver that fails, hangs, redirects, answers late or cuts the connection
// gets the event in the end, and the same id every time.
func TestDeliversToAReceiverWithBadHabits(t *testing.T) {
	elsewhere := receive(t, fine)
	hanging := make(chan struct{})
	habits := map[string]func(try int, w http.ResponseWriter, r *http.Request) bool{
		"fails": func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return false },
		"busy":  func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(429); return false },
		"redirects": func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return false
		},
		"hangs": func(_ int, _ http.ResponseWriter, r *http.Request) bool { <-hanging; return false },
		"cuts": func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
			return false
		},
		"talks on": func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(503)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			return false
		},
	}
	defer close(hanging)
	for name, habit := range habits {
		rec := receive(t, func(try int, w http.ResponseWriter, r *http.Request) bool { return try > 2 || habit(try, w, r) })
		p, stop := running(t, Config{Store: openStore(t), Webhooks: []Webhook{{Name: "crm", URL: rec.URL, Secrets: secrets(t, "s"), Timeout: 100 * time.Millisecond}}})
		push(t, p, Event{ID: "evt_1", Kind: KindDevice, Device: device})
		testnet.Eventually(t, name, func() error {
			if ids := rec.ids(); !slices.Equal(ids, []string{"evt_1"}) {
				return fmt.Errorf("%s: got %v", name, ids)
			}
			return nil
		})
		testnet.Eventually(t, name+": count", func() error {
			if s := p.Stats().Hooks["crm"]; s.Delivered != 1 || s.Failed != 2 || s.Dropped != 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		stop()
	}
	if n := elsewhere.count(); n != 0 {
		t.Errorf("%d signed requests followed a redirect", n)
	}
}

// What was not taken when the process ended is told by the next one.
func TestOutboxSurvivesARestart(t *testing.T) {
	s := openStore(t)
	down := true
	var mu sync.Mutex
	rec := receive(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if down {
			w.WriteHeader(503)
		}
		return !down
	})
	hook := Webhook{Name: "crm", URL: rec.URL, Secrets: secrets(t, "s")}
	p, stop := running(t, Config{Store: s, Webhooks: []Webhook{hook}})
	var want []string
	for i := range 20 {
		id := fmt.Sprintf("evt_%02d", i)
		want = append(want, id)
		push(t, p, Event{ID: id, Kind: KindDevice, Device: device})
	}
	testnet.Eventually(t, "a try", func() error {
		if rec.count() == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	p.Tell(Event{ID: "evt_20", Kind: KindGone, Device: device}) // told, and written before Run returns
	stop()
	mu.Lock()
	down = false
	mu.Unlock()
	_, _ = running(t, Config{Store: s, Webhooks: []Webhook{hook}})
	want = append(want, "evt_20")
	testnet.Eventually(t, "the rest", func() error {
		got := rec.ids()
		slices.Sort(got)
		if !slices.Equal(slices.Compact(got), want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

// One event that the receiver will never take does not stop the others.
func TestOddEventIsDroppedAfterAWhile(t *testing.T) {
	rec := receive(t, nil)
	rec.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "evt_odd") {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.taken = append(rec.taken, Event{ID: r.Header.Get(headerID)})
	})
	p, _ := running(t, Config{Store: openStore(t), Webhooks: []Webhook{{Name: "crm", URL: rec.URL, Secrets: secrets(t, "s"), Workers: 1}}})
	push(t, p, Event{ID: "evt_odd", Kind: KindDevice})
	push(t, p, Event{ID: "evt_good", Kind: KindDevice})
	testnet.Eventually(t, "the next event", func() error {
		if ids := rec.ids(); !slices.Equal(ids, []string{"evt_good"}) {
			return fmt.Errorf("got %v", ids)
		}
		return nil
	})
	if s := p.Stats().Hooks["crm"]; s.Dropped != 1 || s.Failed != maxRefusals {
		t.Errorf("%+v", s)
	}
}

func TestGivesUpWhatIsOld(t *testing.T) {
	rec := receive(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return false })
	p, _ := running(t, Config{Store: openStore(t), Webhooks: []Webhook{{Name: "crm", URL: rec.URL, Secrets: secrets(t, "s")}}})
	push(t, p, Event{Kind: KindDevice, Time: time.Now().Add(-defaultGiveUp - time.Minute)})
	testnet.Eventually(t, "a drop", func() error {
		if s := p.Stats().Hooks["crm"]; s.Dropped != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestKindsChoose(t *testing.T) {
	rec := receive(t, fine)
	p, _ := running(t, Config{Store: openStore(t), Webhooks: []Webhook{{Name: "crm", URL: rec.URL, Secrets: secrets(t, "s"), Kinds: []string{"presence", "alarm.duplicate"}, Workers: 1}}})
	for _, kind := range []string{KindDevice, "presences", KindAttached, "alarm", KindDuplicate} {
		push(t, p, Event{ID: "evt_" + kind, Kind: kind, Device: device})
	}
	testnet.Eventually(t, "two events", func() error {
		if ids := rec.ids(); !slices.Equal(ids, []string{"evt_" + KindAttached, "evt_" + KindDuplicate}) {
			return fmt.Errorf("got %v", ids)
		}
		return nil
	})
}

func TestPushRefuses(t *testing.T) {
	p, err := New(Config{Store: openStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	for what, e := range map[string]Event{
		"kind":   {Kind: "a b"},
		"wild":   {Kind: "a.>"},
		"device": {Kind: "a", Device: "../x"},
		"data":   {Kind: "a", Data: json.RawMessage("{")},
		"much":   {Kind: "a", Data: json.RawMessage(`"` + strings.Repeat("x", MaxDataBytes) + `"`)},
	} {
		if err := p.Push(t.Context(), e); err == nil {
			t.Errorf("%s: %+v was taken", what, e)
		}
	}
}

// Tell never waits, however slow the log is.
func TestTellIsBounded(t *testing.T) {
	p, err := New(Config{Store: openStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range maxTold + 10 {
		p.Tell(Event{Kind: KindGone, Device: device})
	}
	if got := p.Stats().Lost; got != 10 {
		t.Errorf("%d lost, want 10", got)
	}
}

// Presence that no webhook wants is seen by whoever listens, and not kept.
func TestUnwantedPresenceIsNotLogged(t *testing.T) {
	s := openStore(t)
	seen := make(chan string, 10)
	stop, err := s.Subscribe(LivePattern, func(subject string, _ []byte, _ func([]byte)) { seen <- subject })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p, _ := running(t, Config{Store: s, Webhooks: []Webhook{{Name: "alarms", URL: "https://hooks.example.net", Secrets: secrets(t, "s"), Kinds: []string{"alarm"}}}})
	p.Tell(Event{Kind: KindAttached, Device: device})
	<-seen
	if got := p.Stats(); got.Logged != 0 || got.Lost != 0 {
		t.Errorf("presence: %+v", got)
	}
	p.Tell(Event{Kind: KindDuplicate, Device: device})
	<-seen
	if got := p.Stats(); got.Logged != 1 || got.Lost != 0 {
		t.Errorf("an alarm: %+v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	s := secrets(t, "s")
	for what, w := range map[string]Webhook{
		"name":     {Name: "A", URL: "https://hooks.example.net", Secrets: s},
		"url":      {Name: "a", URL: "ftp://hooks.example.net", Secrets: s},
		"plain":    {Name: "a", URL: "http://hooks.example.net", Secrets: s},
		"password": {Name: "a", URL: "https://u:p@hooks.example.net", Secrets: s},
		"secret":   {Name: "a", URL: "https://hooks.example.net"},
		"workers":  {Name: "a", URL: "https://hooks.example.net", Secrets: s, Workers: 33},
	} {
		if _, err := New(Config{Store: openStore(t), Webhooks: []Webhook{w}}); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	twice := Webhook{Name: "a", URL: "https://hooks.example.net", Secrets: s}
	if _, err := New(Config{Store: openStore(t), Webhooks: []Webhook{twice, twice}}); err == nil {
		t.Error("one name twice: accepted")
	}
}

func TestBackoffHasFullJitterAndBounds(t *testing.T) {
	for try := range 40 {
		most := min(maxBackoff, firstBackoff<<min(try, 16))
		var low, high time.Duration = maxBackoff, 0
		for range 2000 {
			w := backoff(firstBackoff, try, nil)
			low, high = min(low, w), max(high, w)
		}
		if low <= 0 || high > most || low > most/20 || high < most-most/20 {
			t.Errorf("try %d: waits from %v to %v, want the whole of 0 to %v", try, low, high, most)
		}
	}
	if w := backoff(firstBackoff, 0, &refusal{after: time.Minute}); w != time.Minute {
		t.Errorf("Retry-After of a minute: %v", w)
	}
	if w := backoff(firstBackoff, 0, &refusal{after: 24 * time.Hour}); w != maxRetryAfter {
		t.Errorf("Retry-After of a day: %v", w)
	}
}

func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "s")
	first, err := LoadSecrets(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadSecrets(path)
	if err != nil || string(again[0]) != string(first[0]) || len(first[0]) != secretBytes {
		t.Errorf("not the same again: %v", err)
	}
	if got := fmt.Sprintf("%v %#v %s", first[0], first[0], first[0]); strings.ContainsAny(got, "[0123456789") {
		t.Errorf("a secret prints as %q", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSecrets(path); err == nil {
		t.Error("a secret that others may read is taken")
	}
	for _, text := range []string{"", "abc", "whsec_!", "whsec_YWJj", strings.Repeat(string(newSecret()), 3)} {
		if _, err := ParseSecrets(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestWaitsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hook{Webhook: Webhook{GiveUp: time.Hour, Timeout: time.Second, URL: "http://127.0.0.1", Secrets: Secrets{make(Secret, 32)}}, first: firstBackoff, log: discard()}
		tries := 0
		h.client = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			tries++
			return nil, net.ErrClosed
		})}
		begin := time.Now()
		data, err := json.Marshal(Event{ID: "evt_1", Kind: KindDevice, Time: begin})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.deliver(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		// Half of 5 min on average once the back-off is at its top.
		if took := time.Since(begin); took < time.Hour || took > time.Hour+maxBackoff || tries < 15 || tries > 60 {
			t.Errorf("given up after %v and %d tries", took, tries)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
