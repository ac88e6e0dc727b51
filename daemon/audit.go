package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Pages of the audit log.
const (
	auditPage    = 100
	maxAuditPage = 1000
)

// maxExports bounds how many read the whole log at once: each parses 4 MiB.
const maxExports = 2

func (d *Daemon) audit(w http.ResponseWriter, r *http.Request, _ caller) error {
	return d.answerAudit(w, r)
}

func (d *Daemon) localAudit(w http.ResponseWriter, r *http.Request) error {
	return d.answerAudit(w, r)
}

// answerAudit answers peers and the local socket alike.
func (d *Daemon) answerAudit(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r, "after", 0, 1<<53)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit", auditPage, maxAuditPage)
	if err != nil {
		return err
	}
	switch format := r.URL.Query().Get("format"); {
	case format == "jsonl", format == "" && acceptsLines(r):
		return d.exportAudit(w, after)
	case format != "" && format != "json":
		return api.Problemf(api.CodeMalformed, "format is json or jsonl")
	}
	page, err := d.readAudit(after, int(limit))
	if err != nil {
		return err
	}
	api.WriteJSON(w, page)
	return nil
}

// acceptsLines reports whether the asker wants JSON lines and names nothing else
// before.
func acceptsLines(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	media, _, err := mime.ParseMediaType(first)
	return err == nil && media == api.MediaJSONLines
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
		line, err := e.Line()
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

// exportAudit sends the log line by line. The reader may take as long as he takes
// something.
func (d *Daemon) exportAudit(w http.ResponseWriter, after uint64) error {
	select {
	case d.exports <- struct{}{}:
		defer func() { <-d.exports }()
	default:
		return api.Problemf(api.CodeLimit, "others read the whole log just now: try again in a moment")
	}
	w.Header().Set("Content-Type", api.MediaJSONLines)
	w.Header().Set("Cache-Control", "no-store")
	if err := d.store.Export(patient{w}, after); err != nil {
		d.log.Warn("the audit log was not exported to its end", "error", err)
		return errAnswered // without its signed end, which shows
	}
	return nil
}

// patient writes to a reader who must take each piece within eventTimeout.
type patient struct{ w http.ResponseWriter }

func (p patient) Write(b []byte) (int, error) {
	// Where no deadline can be set there is no connection either.
	_ = http.NewResponseController(p.w).SetWriteDeadline(time.Now().Add(eventTimeout))
	return p.w.Write(b)
}

func (d *Daemon) localVerify(w http.ResponseWriter, _ *http.Request) error {
	v, err := d.store.Verify()
	if err != nil {
		return err
	}
	api.WriteJSON(w, verdict(v))
	return nil
}

func verdict(v acl.Verification) control.AuditVerdict {
	out := control.AuditVerdict{
		Whole: v.Bad == nil, Entries: uint64(v.Lines), First: v.First, Last: v.Last, Witnessed: v.Witnessed,
	}
	if v.Bad != nil {
		out.Why = v.Bad.String()
	}
	return out
}

// VerifyExport checks a file that `keyholed audit --json` or `keyhole audit` has
// written, by the device's id alone and with no daemon running.
func VerifyExport(file string, id identity.ID) (control.AuditVerdict, error) {
	f, err := os.Open(file)
	if err != nil {
		return control.AuditVerdict{}, err
	}
	defer f.Close() // only read
	v, err := acl.VerifyExport(f, id)
	if err != nil {
		return control.AuditVerdict{}, fmt.Errorf("%s: %w", file, err)
	}
	return verdict(v), nil
}

// lookThroughLog checks once, after the start, what was on the disk: an owner who
// never asks is told all the same that somebody, or worn flash, took a part of it.
func (d *Daemon) lookThroughLog(ctx context.Context, ready func()) error {
	ready()
	v, err := d.store.Verify()
	switch {
	case err != nil:
		d.log.Warn("the audit log cannot be looked through", "error", err)
	case v.Bad != nil:
		d.logBad.Store(v.Bad)
		d.log.Warn("the audit log is not whole", "where", v.Bad.String())
	}
	<-ctx.Done()
	return nil
}
