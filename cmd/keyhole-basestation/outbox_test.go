package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/internal/testnet"
)

// Events that a receiver did not take wait on the disk: the next process, with
// the store that this program ships, tells them.
func TestEventsOutliveTheProcess(t *testing.T) {
	t.Parallel() // NATS waits 10 s before it tells again what was under way
	var up atomic.Bool
	var mu sync.Mutex
	var got []string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !up.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header.Get("webhook-id"))
	}))
	defer receiver.Close()
	dir := t.TempDir()
	secrets, err := push.LoadSecrets(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	// session is one life of the process.
	session := func(during func(*push.Pusher)) {
		t.Helper()
		s, err := natsstore.Open(t.Context(), natsstore.Config{Dir: filepath.Join(dir, "store")})
		if err != nil {
			t.Fatal(err)
		}
		p, err := push.New(push.Config{Store: s, Webhooks: []push.Webhook{{Name: "crm", URL: receiver.URL, Secrets: secrets}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		during(p)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	var want []string
	session(func(p *push.Pusher) {
		for i := range 50 {
			id := fmt.Sprintf("evt_%02d", i)
			want = append(want, id)
			if err := p.Push(t.Context(), push.Event{ID: id, Kind: push.KindDevice + ".motion", Device: strings.Repeat("a", 26)}); err != nil {
				t.Fatal(err)
			}
		}
		testnet.Eventually(t, "a try", func() error {
			if p.Stats().Hooks["crm"].Failed == 0 {
				return fmt.Errorf("none")
			}
			return nil
		})
	})
	up.Store(true)
	session(func(*push.Pusher) {
		testnet.Eventually(t, "every event", func() error {
			mu.Lock()
			defer mu.Unlock()
			all := slices.Clone(got)
			slices.Sort(all)
			if all = slices.Compact(all); !slices.Equal(all, want) {
				return fmt.Errorf("%d of %d", len(all), len(want))
			}
			return nil
		})
	})
}
