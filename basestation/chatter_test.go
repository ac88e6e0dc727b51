package basestation

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestChatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newChatter(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			log.Warn("a stranger")
		}
		if n := strings.Count(out.String(), "\n"); n != chatterBurst {
			t.Errorf("%d lines at once, want %d", n, chatterBurst)
		}
		out.Reset()
		time.Sleep(2 * chatterEvery)
		log.With("device", 1).Warn("a stranger")
		log.Warn("a stranger")
		log.Warn("a stranger")
		if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "left_out=940") {
			t.Errorf("two seconds later:\n%s", out.String())
		}
	})
}

// What strangers do does not fill the log.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	var out bytes.Buffer
	w := newWorld(t, Limits{Introductions: 60_000})
	w.hub.log = slog.New(slog.NewTextHandler(&out, nil))
	w.hub.chatter = newChatter(w.hub.log)
	w.hub.find = failingFind
	for range 4 * chatterBurst {
		w.asks(newKey(t), newKey(t).ID(), nil)
	}
	w.run(3*time.Second, nil)
	if n := strings.Count(out.String(), "\n"); n < 1 || n > 2*chatterBurst {
		t.Errorf("%d lines of %d questions", n, 4*chatterBurst)
	}
}
