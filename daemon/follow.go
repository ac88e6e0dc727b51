package daemon

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
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
		// The right to listen may have gone since the stream began.
		if !d.decide(c, acl.ActionEvents, acl.Service{}).Allow {
			return errAnswered
		}
	}
}

// send writes to a reader who must take it within eventTimeout.
func send(w http.ResponseWriter, text string) error {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return control.Flush()
}

// Pages of the audit log.
const (
	auditPage    = 100
	maxAuditPage = 1000
)

func (d *Daemon) audit(w http.ResponseWriter, r *http.Request, _ caller) error {
	page, err := d.auditPage(r)
	if err != nil {
		return err
	}
	api.WriteJSON(w, page)
	return nil
}

// auditPage reads ?after=N&limit=M for peers and for the local socket alike.
func (d *Daemon) auditPage(r *http.Request) (api.Audit, error) {
	after, err := number(r, "after", 0, 1<<53)
	if err != nil {
		return api.Audit{}, err
	}
	limit, err := number(r, "limit", auditPage, maxAuditPage)
	if err != nil {
		return api.Audit{}, err
	}
	return d.readAudit(after, int(limit))
}

func number(r *http.Request, name string, absent, most uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most {
		return 0, api.Problemf(api.CodeMalformed, "%s wants a whole number from 0 to %d", name, most)
	}
	return n, nil
}

func (d *Daemon) readAudit(after uint64, limit int) (api.Audit, error) {
	entries, err := d.store.Audit(after, limit)
	if err != nil {
		return api.Audit{}, err
	}
	page := api.Audit{Entries: make([]json.RawMessage, 0, len(entries))}
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return api.Audit{}, err
		}
		page.Entries = append(page.Entries, line)
		page.Next = e.Number
	}
	if len(entries) < limit {
		page.Next = 0
	}
	return page, nil
}
