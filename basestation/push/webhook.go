package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// A Webhook is a receiver of events.
type Webhook struct {
	// Name is the webhook's place in the log: [a-z0-9-], up to 24. Another name
	// begins at the oldest event that the log still has.
	Name string
	// URL is where to POST: https, or http to a loopback address.
	URL     string
	Secrets Secrets
	// Kinds are prefixes of the kinds to tell, such as "presence"; none: all.
	Kinds []string
	// Roots are the authorities to believe; nil: those of the system.
	Roots *x509.CertPool
	// Timeout of one try; 0: 10 s.
	Timeout time.Duration
	// Workers is how many events are under way at once, 1 to 32; 0: 4. With 1,
	// one process and no failure the order of the log is kept; nothing else
	// promises an order.
	Workers int
	// GiveUp is the age at which an event is dropped that the receiver will not
	// take; 0: 72 h.
	GiveUp time.Duration
}

const (
	defaultTimeout = 10 * time.Second
	defaultWorkers = 4
	maxWorkers     = 32
	defaultGiveUp  = 72 * time.Hour // a weekend; the log itself keeps a week

	// Full jitter: the n-th wait is anything up to 2^n s, at most 5 min, so that
	// what failed together does not come back together.
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Minute
	// maxRetryAfter bounds what a receiver may ask for.
	maxRetryAfter = 15 * time.Minute
	// maxRefusals is how often an event is shown to a receiver that answers that
	// it will never take it (4xx), so that one odd event does not stop the rest.
	maxRefusals = 8

	maxAnswerBytes = 4 << 10
)

var hookName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

// hook is a Webhook at work.
type hook struct {
	Webhook
	workers int
	first   time.Duration // firstBackoff
	client  *http.Client
	log     *slog.Logger

	delivered, failed, dropped atomic.Uint64
	waiting                    atomic.Int64
}

func newHook(w Webhook, log *slog.Logger) (*hook, error) {
	if !hookName.MatchString(w.Name) {
		return nil, errors.New("the name wants a-z, 0-9 and -, at most 24 of them")
	}
	if err := CheckURL(w.URL); err != nil {
		return nil, err
	}
	if len(w.Secrets) == 0 {
		return nil, errors.New("no secret to sign with")
	}
	if w.Workers < 0 || w.Workers > maxWorkers {
		return nil, fmt.Errorf("%d workers: want 1 to %d", w.Workers, maxWorkers)
	}
	h := &hook{Webhook: w, workers: w.Workers, first: firstBackoff, log: log.With("webhook", w.Name)}
	if h.workers == 0 {
		h.workers = defaultWorkers
	}
	if h.Timeout <= 0 {
		h.Timeout = defaultTimeout
	}
	if h.GiveUp <= 0 {
		h.GiveUp = defaultGiveUp
	}
	h.client = newClient(w.Roots, h.workers)
	return h, nil
}

// CheckURL refuses what is no place to send to: anything but https, and http
// beyond this machine.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New(`no URL: want one such as "https://hooks.example.net/keyhole"`)
	case u.User != nil:
		return errors.New("a URL with a password in it: requests are signed instead")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http":
		if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && addr.IsLoopback() {
			return nil
		}
		return errors.New("http is for this machine alone: want https")
	}
	return fmt.Errorf("scheme %q: want https", u.Scheme)
}

// maxRootsBytes is more than the file of all public authorities has.
const maxRootsBytes = 1 << 20

// LoadRoots reads the authorities to believe from a PEM file; "" is nil, those of
// the system.
func LoadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRootsBytes))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return pool, nil
}

func newClient(roots *x509.CertPool, conns int) *http.Client {
	return &http.Client{
		CheckRedirect: refuseRedirects,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			MaxIdleConnsPerHost:    conns,
			MaxConnsPerHost:        conns,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			ForceAttemptHTTP2:      true,
		},
	}
}

// consume tells events of the log until ctx ends.
func (h *hook) consume(ctx context.Context, s store.Store) error {
	err := s.Consume(ctx, "webhook-"+h.Name, SubjectPrefix+".>", func(_ string, data []byte) error {
		return h.deliver(ctx, data)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// deliver returns nil when the event is told or given up, and the context's error
// when the log has to keep it.
func (h *hook) deliver(ctx context.Context, data []byte) error {
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		h.dropped.Add(1)
		h.log.Error("an event in the log cannot be read", "error", err)
		return nil
	}
	if !wants(h.Kinds, e.Kind) {
		return nil
	}
	refusals := 0
	for try := 0; ; try++ {
		err := h.post(ctx, e.ID, data)
		if err == nil {
			h.delivered.Add(1)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.failed.Add(1)
		var no *refusal
		if errors.As(err, &no) && no.forGood() {
			refusals++
		}
		if age := time.Since(e.Time); refusals >= maxRefusals || age > h.GiveUp {
			h.dropped.Add(1)
			h.log.Error("an event is dropped, the receiver does not take it", "event", e.ID, "kind", e.Kind, "tries", try+1, "error", err)
			return nil
		}
		wait := backoff(h.first, try, no)
		h.log.Warn("an event was not taken", "event", e.ID, "kind", e.Kind, "try", try+1, "again_in", wait.Round(time.Millisecond), "error", err)
		if err := h.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (h *hook) sleep(ctx context.Context, wait time.Duration) error {
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// backoff is the wait after the try of this number, counted from 0.
func backoff(first time.Duration, try int, no *refusal) time.Duration {
	most := maxBackoff
	if try < 16 {
		most = min(most, first<<try)
	}
	wait := rand.N(most) + 1
	if no != nil {
		wait = max(wait, min(no.after, maxRetryAfter))
	}
	return wait
}

// post is one try.
func (h *hook) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	h.Secrets.setHeaders(r, id, time.Now(), body)
	answer, err := h.client.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswerBytes)) // so that the connection can be used again
	if answer.StatusCode/100 == 2 {
		return nil
	}
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // a date, or nonsense, is our own back-off
	return &refusal{status: answer.StatusCode, after: time.Duration(min(max(seconds, 0), 86400)) * time.Second}
}

// withoutURL keeps a receiver's URL, which may itself be the secret, out of the log.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// A refusal is an answer that is no yes.
type refusal struct {
	status int
	after  time.Duration // what Retry-After asks for
}

func (r *refusal) Error() string {
	if r.status/100 == 3 {
		return fmt.Sprintf("status %d: redirects are not followed", r.status)
	}
	return fmt.Sprintf("status %d %s", r.status, http.StatusText(r.status))
}

// forGood tells answers about this event from those about the present moment.
func (r *refusal) forGood() bool {
	switch r.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return false // the last three are mistakes of set-up, which somebody will correct
	}
	return r.status/100 == 4
}
