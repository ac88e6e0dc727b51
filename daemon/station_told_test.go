package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
)

// The log says why there is no basestation, once for each reason and not at every try.
func TestTheLogSaysWhyThereIsNoBasestation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		x := &told{log: slog.New(slog.NewTextHandler(&out, nil))}
		lines := func() int { return strings.Count(out.String(), "\n") }
		failed := func(why string) { x.report(reach.Status{State: attach.StateWaiting, Err: errors.New(why)}) }
		x.report(reach.Status{State: attach.StateLocating})
		if lines() != 0 {
			t.Errorf("said before anything happened: %s", &out)
		}
		for range 100 {
			failed("no answer")
			failed("no such host")
			time.Sleep(time.Second)
		}
		if lines() != 2 {
			t.Errorf("want a line for each reason:\n%s", &out)
		}
		for range 2 {
			x.report(reach.Status{State: attach.StateAttached, Over: "udp"})
		}
		failed("no answer")
		if lines() != 4 {
			t.Errorf("want one that it stands and one that it is lost:\n%s", &out)
		}
		time.Sleep(sameEvery)
		failed("no answer")
		for i := range 1000 {
			failed("reason " + strings.Repeat("x", i))
		}
		if lines() != 5+1000 || len(x.reasons) > maxReasons {
			t.Errorf("%d lines, %d reasons remembered", lines(), len(x.reasons))
		}
	})
}
