package daemon

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keyholed/keyhole/acl"
)

// heartbeat keeps NATs and proxies from forgetting a silent event stream, and
// lets the device notice a reader that is gone.
const heartbeat = 25 * time.Second

// eventTimeout ends the stream of a reader who takes nothing for so long. With
// his window and our socket's buffer he has missed some thousand events by then.
const eventTimeout = 20 * time.Second

// follow sends events as they happen (WHATWG server-sent events: one data line
// each). The stream ends with the session, so a revocation ends it too.
func (d *Daemon) follow(w http.ResponseWriter, r *http.Request, c caller) error {
	feed, stop, err := d.events.subscribe(c.name())
	if err != nil {
		return err
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	next := ": keyhole events\n\n"
	for {
		if err := send(w, next); err != nil {
			return errAnswered
		}
		select {
		case <-r.Context().Done():
			return errAnswered
		case <-c.session.Done():
			return errAnswered
		case <-d.stopping:
			return errAnswered
		case <-beat.C:
			next = ":\n\n"
		case ev := <-feed:
			data, _ := json.Marshal(ev) // plain strings: cannot fail
			next = fmt.Sprintf("data: %s\n\n", data)
		}
		// The right to listen may have gone since the stream began, and what the
		// caller may act as too: a guest who is on the list keeps his session.
		c.principals = d.principalsOf(c.peer)
		if !d.decide(c, acl.ActionEvents, acl.Service{}).Allow {
			return errAnswered
		}
	}
}

// send writes to a reader who must take it within eventTimeout. Then the deadline is
// lifted: an HTTP/2 stream would be reset when it passes, though nothing is being written.
func send(w http.ResponseWriter, text string) error {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return err
	}
	return control.SetWriteDeadline(time.Time{})
}
