package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
)

// heartbeat keeps NATs and proxies from forgetting a silent event stream, and
// lets the device notice a reader that is gone.
const heartbeat = 25 * time.Second

// follow sends events as they happen (WHATWG server-sent events: one data line
// each). The stream ends with the session, so a revocation ends it too.
func (d *Daemon) follow(w http.ResponseWriter, r *http.Request, c caller) error {
	feed, stop := d.events.subscribe()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	if _, err := fmt.Fprint(w, ": keyhole events\n\n"); err != nil {
		return errAnswered
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if err := out.Flush(); err != nil {
			return errAnswered
		}
		var err error
		select {
		case <-r.Context().Done():
			return errAnswered
		case <-c.session.Done():
			return errAnswered
		case <-d.stopping:
			return errAnswered
		case <-beat.C:
			_, err = fmt.Fprint(w, ":\n\n")
		case ev := <-feed:
			// The right to listen may have gone since the stream began.
			if !d.decide(c, acl.ActionEvents, acl.Service{}).Allow {
				return errAnswered
			}
			data, _ := json.Marshal(ev) // plain strings: cannot fail
			_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		}
		if err != nil {
			return errAnswered
		}
	}
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
