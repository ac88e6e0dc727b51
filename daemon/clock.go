package daemon

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/acl"
)

// clock tells the time and whether to believe it: the kernel knows whether an
// NTP client has set it since boot (adjtimex(2): TIME_ERROR means that it is
// not synchronised).
func (d *Daemon) clock() acl.Clock {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return acl.Clock{Now: time.Now(), Known: err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0}
}
