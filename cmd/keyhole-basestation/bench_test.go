package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

func benchStore(b *testing.B) *natsstore.Store {
	b.Helper()
	s, err := natsstore.Open(b.Context(), natsstore.Config{Dir: filepath.Join(b.TempDir(), "store")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkWebhook is events from Push, synced to the disk, to a receiver on
// loopback that takes them at once.
func BenchmarkWebhook(b *testing.B) {
	var taken atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		taken.Add(1)
	}))
	defer receiver.Close()
	secrets, err := push.LoadSecrets(filepath.Join(b.TempDir(), "secret"))
	if err != nil {
		b.Fatal(err)
	}
	p, err := push.New(push.Config{Store: benchStore(b), Webhooks: []push.Webhook{{Name: "crm", URL: receiver.URL, Secrets: secrets}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	b.ResetTimer()
	for range b.N {
		p.Tell(push.Event{Kind: push.KindGone, Device: "abcdefghijklmnopqrstuvwxyz"})
		if int64(p.Stats().Logged)-taken.Load() > 10_000 {
			testnet.Until(b, "the consumer keeps up", func() bool { return int64(p.Stats().Logged)-taken.Load() <= 10_000 })
		}
	}
	testnet.Until(b, "all are taken", func() bool { return taken.Load() >= int64(b.N) })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// BenchmarkPage is one page of 1,000 devices out of 100,000.
func BenchmarkPage(b *testing.B) {
	const devices = 100_000
	s := benchStore(b)
	for i := range devices {
		var f identity.Fingerprint
		copy(f[:], fmt.Sprintf("%x", i*7919))
		p := registry.Presence{Fingerprint: attach.Hash(f), State: registry.Attached, Node: "n1", Since: 1_800_000_000, Firmware: "1.2.3"}
		data, err := attach.Encode(p)
		if err == nil {
			err = s.PutSoon("presence/"+string(p.ID()), data)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	api, err := admin.New(admin.Config{
		Records: registry.New(registry.Config{Store: s}), About: func() admin.About { return admin.About{} }, Ready: func(context.Context) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		w := httptest.NewRecorder()
		api.LocalHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/devices?limit=1000", nil))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
