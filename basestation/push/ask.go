package push

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Figures of the authorization webhook.
const (
	// AskTimeout lets the uniform no still leave in time: every no leaves 1 s
	// after the question came, and 300 ms are for the way to the device and back.
	AskTimeout = 700 * time.Millisecond
	// MaxGrantBytes fits into one packet beside the introduction it goes with.
	MaxGrantBytes = 512
	// maxLife bounds how long a decision may be reused, as that of a grant.
	maxLife = time.Hour
	// maxDecisions bounds the cache, some 10 MB with grants of usual length.
	maxDecisions = 16 << 10
	// maxAsking bounds the questions under way. More are answered no: an
	// introduction rate beyond 300 a second is an attack or a fleet of nodes.
	maxAsking = 256
)

// A Question is asked about one introduction.
//
//	{"client": "64 hexadecimal digits", "device": "26 letters", "source": "192.0.2.7:40123",
//	 "time": "2026-01-02T03:04:05Z", "attach": "64 hexadecimal digits"}
type Question struct {
	Client  string    `json:"client"`            // fingerprint of the client, whose signature was checked
	Device  string    `json:"device"`            // id of the device, which need not exist
	Source  string    `json:"source"`            // where the client is seen at
	Country string    `json:"country,omitempty"` // two letters, where the operator has a country file that knows
	Time    time.Time `json:"time"`              // of the node's clock, in UTC; zero: now
	Attach  string    `json:"attach,omitempty"`  // hash of the device's present attach, where it is known: what a grant is bound to
}

// A Verdict is the answer. The zero value is no.
//
//	{"allow": true, "grant": "eyJ…", "ttl": 60}
type Verdict struct {
	Allow bool
	Grant []byte        // signed by the vendor, carried to the device unread; at most 512 bytes
	TTL   time.Duration // how long it is the answer to the same question; 0: asked anew
}

// An AskConfig says whom to ask.
type AskConfig struct {
	URL     string // https, or http to a loopback address
	Secrets Secrets
	Roots   *x509.CertPool // nil: those of the system
	Timeout time.Duration  // at most AskTimeout, which 0 is
	Log     *slog.Logger   // nil: silent
}

// An Asker asks the vendor's webhook about introductions. What is not answered
// with a clear yes in time is no.
type Asker struct {
	url     string
	secrets Secrets
	timeout time.Duration
	client  *http.Client
	log     *slog.Logger
	slots   chan struct{}

	asked, reused, failed, refused atomic.Uint64

	mu struct {
		sync.Mutex
		decisions map[cacheKey]decision
	}
}

// cacheKey is a question without its time; of the source the address counts, as
// ports change with every connection.
type cacheKey struct {
	client, device, attach string
	source                 netip.Addr
}

type decision struct {
	Verdict
	until time.Time // monotonic
}

// NewAsker checks the configuration and returns an Asker.
func NewAsker(c AskConfig) (*Asker, error) {
	if err := CheckURL(c.URL); err != nil {
		return nil, fmt.Errorf("authorization webhook: %w", err)
	}
	if len(c.Secrets) == 0 {
		return nil, errors.New("authorization webhook: no secret to sign with")
	}
	if c.Timeout <= 0 || c.Timeout > AskTimeout {
		c.Timeout = AskTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Asker{url: c.URL, secrets: c.Secrets, timeout: c.Timeout, client: newClient(c.Roots, maxAsking), log: c.Log, slots: make(chan struct{}, maxAsking)}
	a.mu.decisions = map[cacheKey]decision{}
	return a, nil
}

// Ask returns the verdict. An error means no, and is for the log.
func (a *Asker) Ask(ctx context.Context, q Question) (Verdict, error) {
	source, err := netip.ParseAddrPort(q.Source)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask about an introduction: source %w", err)
	}
	key := cacheKey{q.Client, q.Device, q.Attach, source.Addr().Unmap()}
	if v, ok := a.remembered(key); ok {
		a.reused.Add(1)
		return v, nil
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		a.failed.Add(1)
		return Verdict{}, fmt.Errorf("ask about an introduction: %d questions are under way already", maxAsking)
	}
	v, err := a.ask(ctx, q)
	if err != nil {
		a.failed.Add(1)
		return Verdict{}, fmt.Errorf("ask about an introduction: %w", err)
	}
	a.asked.Add(1)
	if !v.Allow {
		a.refused.Add(1)
	}
	a.remember(key, v)
	return v, nil
}

func (a *Asker) ask(ctx context.Context, q Question) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if q.Time.IsZero() {
		q.Time = time.Now()
	}
	q.Time = q.Time.UTC().Truncate(time.Millisecond)
	body, err := json.Marshal(q)
	if err != nil {
		return Verdict{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return Verdict{}, err
	}
	a.secrets.setHeaders(r, newID(), time.Now(), body)
	answer, err := a.client.Do(r)
	if err != nil {
		return Verdict{}, withoutURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return Verdict{}, &refusal{status: answer.StatusCode}
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes+1))
	if err != nil {
		return Verdict{}, err
	}
	return parseVerdict(data)
}

// parseVerdict reads an answer. Fields that we do not know are for later
// versions; those that we know must be what they are said to be.
func parseVerdict(data []byte) (Verdict, error) {
	if len(data) > maxAnswerBytes {
		return Verdict{}, fmt.Errorf("an answer of more than %d bytes", maxAnswerBytes)
	}
	var answer struct {
		Allow *bool  `json:"allow"`
		Grant string `json:"grant"`
		TTL   int64  `json:"ttl"` // seconds
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return Verdict{}, fmt.Errorf("the answer: %w", err)
	}
	switch {
	case answer.Allow == nil:
		return Verdict{}, errors.New(`the answer has no "allow"`)
	case len(answer.Grant) > MaxGrantBytes:
		return Verdict{}, fmt.Errorf("a grant of %d bytes: at most %d fit", len(answer.Grant), MaxGrantBytes)
	case answer.TTL < 0:
		return Verdict{}, fmt.Errorf("a life of %d s", answer.TTL)
	}
	v := Verdict{Allow: *answer.Allow, TTL: time.Duration(min(answer.TTL, int64(maxLife/time.Second))) * time.Second}
	if v.Allow && answer.Grant != "" {
		v.Grant = []byte(answer.Grant)
	}
	return v, nil
}

func (a *Asker) remembered(key cacheKey) (Verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.mu.decisions[key]
	if !ok {
		return Verdict{}, false
	}
	if !time.Now().Before(d.until) {
		delete(a.mu.decisions, key)
		return Verdict{}, false
	}
	return d.Verdict, true
}

func (a *Asker) remember(key cacheKey, v Verdict) {
	if v.TTL <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.mu.decisions) >= maxDecisions {
		a.makeRoomLocked()
	}
	a.mu.decisions[key] = decision{v, time.Now().Add(v.TTL)}
}

// makeRoomLocked drops what is over, else some of the rest, whichever the map
// names first: asking again costs a round trip and nothing else.
func (a *Asker) makeRoomLocked() {
	now, drop := time.Now(), maxDecisions/16
	for key, d := range a.mu.decisions {
		if !now.Before(d.until) {
			delete(a.mu.decisions, key)
		}
	}
	for key := range a.mu.decisions {
		if drop--; drop < 0 || len(a.mu.decisions) < maxDecisions*15/16 {
			return
		}
		delete(a.mu.decisions, key)
	}
}

// Close gives up idle connections.
func (a *Asker) Close() { a.client.CloseIdleConnections() }

// AskStats are counters since the start, for metrics.
type AskStats struct {
	Asked   uint64 // answered in time
	Reused  uint64 // answered from memory
	Refused uint64 // of those asked: no
	Failed  uint64 // no answer that could be used, which is no
}

// Stats returns the counters.
func (a *Asker) Stats() AskStats {
	return AskStats{a.asked.Load(), a.reused.Load(), a.refused.Load(), a.failed.Load()}
}
