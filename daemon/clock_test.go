package daemon

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSynchronized(t *testing.T) {
	here := t.TempDir()
	missing := filepath.Join(here, "missing")
	for _, c := range []struct {
		name   string
		state  int
		status int32
		err    error
		stamp  string
		want   bool
	}{
		{"set by an NTP client", unix.TIME_OK, 0, nil, missing, true},
		{"never set", unix.TIME_ERROR, unix.STA_UNSYNC, nil, here, false},
		{"lost again", unix.TIME_OK, unix.STA_UNSYNC, nil, here, false},
		{"in the sandbox, set by timesyncd", -1, 0, unix.EPERM, here, true},
		{"in the sandbox, not set", -1, 0, unix.EPERM, missing, false},
	} {
		ask := func(x *unix.Timex) (int, error) {
			x.Status = c.status
			return c.state, c.err
		}
		if got := synchronized(ask, c.stamp); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
