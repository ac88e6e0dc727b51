// Package systemd is what keyholed has to do with the service manager: telling
// it how we are, answering its watchdog, taking sockets from it, and writing to
// its journal. The units themselves lie beside the Go files.
//
// The daemon and cmd/keyholed use it. Without systemd every part is silent and
// harmless: nothing is sent, no sockets come, the log goes to standard error.
package systemd

import (
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Notifier tells systemd the state of the service (sd_notify(3)). The zero
// value works. A message that cannot be sent is logged and nothing else: what
// the service does for its users does not depend on it.
type Notifier struct {
	Log *slog.Logger // nil: silent
}

// Ready says that the start, or a reload, is complete. status is a line for
// `systemctl status`; empty leaves the last one.
func (n *Notifier) Ready(status string) { n.send(daemon.SdNotifyReady, statusLine(status)) }

// Status shows one line of text in `systemctl status`.
func (n *Notifier) Status(text string) { n.send(statusLine(text)) }

// Reloading says that the configuration is being read again; Ready must follow.
// The time stamp tells systemd (since 253, Type=notify-reload) that this is the
// reload it asked for and not an earlier one.
func (n *Notifier) Reloading() {
	n.send(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping says that the service ends on purpose.
func (n *Notifier) Stopping(status string) { n.send(daemon.SdNotifyStopping, statusLine(status)) }

func (n *Notifier) send(lines ...string) {
	var message []string
	for _, l := range lines {
		if l != "" {
			message = append(message, l)
		}
	}
	if len(message) == 0 {
		return
	}
	if _, err := daemon.SdNotify(false, strings.Join(message, "\n")); err != nil && n.Log != nil {
		n.Log.Warn("systemd was not told", "state", message[0], "error", err)
	}
}

// statusLine keeps text on one line: behind a line end, names of devices and
// users could say other things to systemd, such as READY=1.
func statusLine(text string) string {
	if text == "" {
		return ""
	}
	return "STATUS=" + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
