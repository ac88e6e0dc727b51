package daemon

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestComplaintsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		c := newComplaints(slog.New(slog.NewTextHandler(&text, nil)))
		for range 1000 {
			c.say("message of the basestation refused")
		}
		if n := bytes.Count(text.Bytes(), []byte("\n")); n != 20 {
			t.Errorf("%d lines at once", n)
		}
		text.Reset()
		time.Sleep(time.Minute)
		for range 1000 {
			c.say("message of the basestation refused")
		}
		if n := bytes.Count(text.Bytes(), []byte("\n")); n != 6 {
			t.Errorf("%d lines of a minute", n)
		}
	})
}
