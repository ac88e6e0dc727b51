package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// verify is what docs/operator.md tells receivers to do.
func verify(secret Secret, h http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return true
		}
	}
	return false
}

func question() Question {
	return Question{Client: strings.Repeat("ab", 32), Device: device, Source: "192.0.2.7:40123"}
}

func asker(t *testing.T, url string, timeout time.Duration) *Asker {
	t.Helper()
	a, err := NewAsker(AskConfig{URL: url, Secrets: secrets(t, "s"), Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func TestAsk(t *testing.T) {
	var a *Asker
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !verify(a.secrets[0], r.Header, body) {
			t.Error("the signature does not verify")
		}
		var q Question
		if err := json.Unmarshal(body, &q); err != nil || q.Client != question().Client || q.Source != question().Source || time.Since(q.Time) > time.Minute {
			t.Errorf("%v: %s", err, body)
		}
		fmt.Fprintf(w, `{"allow": %v, "grant": "eyJh", "ttl": 0, "later": 1}`, q.Device == device)
	}))
	defer server.Close()
	a = asker(t, server.URL, 0)
	v, err := a.Ask(t.Context(), question())
	if err != nil || !v.Allow || string(v.Grant) != "eyJh" {
		t.Errorf("yes: %+v, %v", v, err)
	}
	other := question()
	other.Device = strings.Repeat("a", 26)
	v, err = a.Ask(t.Context(), other)
	if err != nil || v.Allow || v.Grant != nil {
		t.Errorf("no: %+v, %v", v, err)
	}
	if s := a.Stats(); s != (AskStats{Asked: 2, Refused: 1}) {
		t.Errorf("%+v", s)
	}
}

// Whatever is not a clear yes in time is no.
func TestAskFailsClosed(t *testing.T) {
	hang := make(chan struct{})
	elsewhere := receive(t, fine)
	for name, answer := range map[string]http.HandlerFunc{
		"status":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, `{"allow": true}`) },
		"created": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); fmt.Fprint(w, `{"allow": true}`) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"empty":    func(http.ResponseWriter, *http.Request) {},
		"no field": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"grant": "x"}`) },
		"string":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": "true"}`) },
		"number":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": 1}`) },
		"null":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": null}`) },
		"two":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": true} {}`) },
		"half":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": true`) },
		"large": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"allow": true}`+strings.Repeat(" ", maxAnswerBytes))
		},
		"big grant": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"allow": true, "grant": %q}`, strings.Repeat("x", MaxGrantBytes+1))
		},
		"negative": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow": true, "ttl": -1}`) },
		"hangs":    func(_ http.ResponseWriter, r *http.Request) { <-hang },
		"late body": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"allow": tr`)
			w.(http.Flusher).Flush()
			<-hang
		},
	} {
		server := httptest.NewServer(answer)
		a := asker(t, server.URL, 100*time.Millisecond)
		if v, err := a.Ask(t.Context(), question()); err == nil || v.Allow || v.Grant != nil {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
		a.Close()
		server.CloseClientConnections()
		defer server.Close()
	}
	close(hang)
	if n := elsewhere.count(); n != 0 {
		t.Errorf("%d questions followed a redirect", n)
	}
	a := asker(t, "http://127.0.0.1:1", 0)
	if v, err := a.Ask(t.Context(), question()); err == nil || v.Allow {
		t.Errorf("nobody there: %+v, %v", v, err)
	}
	odd := question()
	odd.Source = "x"
	if v, err := a.Ask(t.Context(), odd); err == nil || v.Allow {
		t.Errorf("no source: %+v, %v", v, err)
	}
}

// The no leaves in time however the webhook behaves: 700 ms at most.
func TestAskTimeoutCannotBeRaised(t *testing.T) {
	if a := asker(t, "http://127.0.0.1:1", time.Minute); a.timeout != AskTimeout {
		t.Errorf("%v", a.timeout)
	}
}

// A decision is used again for the same question alone, and for its life.
func TestDecisionsAreRememberedForTheirLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		a, err := NewAsker(AskConfig{URL: "https://hooks.example.net", Secrets: Secrets{make(Secret, 32)}})
		if err != nil {
			t.Fatal(err)
		}
		a.client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"allow": true, "ttl": 60}`))}, nil
		})}
		ask := func(want int64, change func(*Question)) {
			t.Helper()
			q := question()
			if change != nil {
				change(&q)
			}
			if v, err := a.Ask(t.Context(), q); err != nil || !v.Allow {
				t.Fatal(v, err)
			}
			if got := asked.Load(); got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
		}
		ask(1, nil)
		ask(1, func(q *Question) { q.Source = "[::ffff:192.0.2.7]:1" }) // the same address
		ask(2, func(q *Question) { q.Source = "192.0.2.8:40123" })
		ask(3, func(q *Question) { q.Client = strings.Repeat("cd", 32) })
		ask(4, func(q *Question) { q.Device = "b" })
		ask(5, func(q *Question) { q.Attach = "b" })
		time.Sleep(59 * time.Second) // virtual
		ask(5, nil)
		time.Sleep(time.Second)
		ask(6, nil)
	})
}

func TestRememberedDecisionsAreBounded(t *testing.T) {
	a := asker(t, "http://127.0.0.1:1", 0)
	for i := range maxDecisions * 2 {
		a.remember(cacheKey{client: fmt.Sprint(i)}, Verdict{Allow: true, TTL: time.Hour})
	}
	if n := len(a.mu.decisions); n > maxDecisions {
		t.Errorf("%d decisions, want at most %d", n, maxDecisions)
	}
	if _, ok := a.remembered(cacheKey{client: fmt.Sprint(maxDecisions*2 - 1)}); !ok {
		t.Error("the last decision is not remembered")
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	a := asker(t, server.URL, 0)
	for range maxAsking {
		a.slots <- struct{}{}
	}
	begin := time.Now()
	if v, err := a.Ask(t.Context(), question()); err == nil || v.Allow || time.Since(begin) > AskTimeout {
		t.Errorf("%+v, %v", v, err)
	}
}

func FuzzVerdict(f *testing.F) {
	f.Add([]byte(`{"allow": true, "grant": "eyJh", "ttl": 60}`))
	f.Add([]byte(`{"allow": false, "ttl": 9223372036854775807}`))
	f.Add([]byte(`{"ALLOW": true, "allow": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseVerdict(data)
		if err != nil && (v.Allow || v.Grant != nil) {
			t.Errorf("%v, and %+v", err, v)
		}
		if v.TTL < 0 || v.TTL > maxLife || len(v.Grant) > MaxGrantBytes || !v.Allow && v.Grant != nil {
			t.Errorf("%+v", v)
		}
	})
}

func FuzzParseSecrets(f *testing.F) {
	f.Add(string(newSecret()))
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseSecrets(text)
		if err == nil && (len(all) == 0 || len(all) > maxSecrets || len(all[0]) < minSecretBytes) {
			t.Errorf("%d secrets", len(all))
		}
	})
}

// The URL of a receiver may be all that protects it, and does not get into the log.
func TestURLIsNotLogged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "http://" + l.Addr().String() + "/hooks/T0-secret?token=secret"
	_ = l.Close() // nobody answers
	secrets, err := ParseSecrets(string(newSecret()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAsker(AskConfig{URL: at, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	h, err := newHook(Webhook{Name: "a", URL: at, Secrets: secrets}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, asked := a.Ask(t.Context(), Question{Source: "192.0.2.1:9"})
	for what, err := range map[string]error{"asked": asked, "told": h.post(t.Context(), "evt_1", nil)} {
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
