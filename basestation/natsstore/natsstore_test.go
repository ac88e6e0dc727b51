package natsstore_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/basestation/store/storetest"
)

// words has a store's log in the test's output.
func words(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// embedded opens a store in a directory of its own, closed after the test, when
// no goroutine of it may be left.
func embedded(t *testing.T) *natsstore.Store {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s, err := natsstore.Open(t.Context(), natsstore.Config{Dir: t.TempDir(), Log: words(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return s
}

func TestEmbedded(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		first := embedded(t)
		return func() store.Store {
			s, err := first.Join(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
