package systemd

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	slogjournal "github.com/systemd/slog-journal"
)

// NewLogger returns the log of a program. When standard error is the journal
// (and not a file or a pipe of somebody else), records go there with their
// fields, so that `journalctl KEYHOLE_USER=alice` finds them; else they are text
// on standard error, without time stamps under systemd, which adds its own.
func NewLogger(level slog.Leveler) *slog.Logger {
	if isJournal, err := journal.StderrIsJournalStream(); err == nil && isJournal {
		h, err := slogjournal.NewHandler(&slogjournal.Options{
			Level:        level,
			ReplaceAttr:  func(_ []string, a slog.Attr) slog.Attr { a.Key = fieldName(a.Key); return a },
			ReplaceGroup: fieldName,
		})
		if err == nil {
			return slog.New(newJournalHandler(h))
		}
	}
	return slog.New(textHandler(os.Stderr, level, os.Getenv("INVOCATION_ID") != ""))
}

// textHandler writes one line for each record. bare leaves the time out.
func textHandler(w io.Writer, level slog.Leveler, bare bool) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if bare && len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

// fieldPrefix keeps our fields apart from the journal's own: a key "message" or
// "priority" must not replace what the journal means by it.
const fieldPrefix = "KEYHOLE_"

// fieldName makes a journal field of a log key: A-Z, 0-9 and _, at most 64
// (systemd.journal-fields(7)). Anything else would be dropped silently.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	if !strings.HasPrefix(name, fieldPrefix) {
		name = fieldPrefix + name
	}
	return name[:min(len(name), 64)]
}

// journalHandler puts the fields of a record into its message as well. In the
// journal's usual view only messages are seen, and a line "tunnel ended" alone
// tells an operator nothing.
type journalHandler struct {
	next slog.Handler
	text slog.Handler // writes attributes into buf
	buf  *lineBuffer
}

type lineBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func newJournalHandler(next slog.Handler) *journalHandler {
	buf := &lineBuffer{}
	text := slog.NewTextHandler(&buf.Buffer, &slog.HandlerOptions{
		Level: slog.Level(-128), // next decides
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	return &journalHandler{next: next, text: text, buf: buf}
}

func (h *journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields, err := h.render(ctx, r)
	if err == nil && fields != "" {
		r.Message += " " + fields
	}
	return h.next.Handle(ctx, r)
}

func (h *journalHandler) render(ctx context.Context, r slog.Record) (string, error) {
	h.buf.Lock()
	defer h.buf.Unlock()
	h.buf.Reset()
	err := h.text.Handle(ctx, r)
	return strings.TrimSpace(h.buf.String()), err
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{next: h.next.WithAttrs(attrs), text: h.text.WithAttrs(attrs), buf: h.buf}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{next: h.next.WithGroup(name), text: h.text.WithGroup(name), buf: h.buf}
}
