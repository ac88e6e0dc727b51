package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
)

// An HTTP/1.1 CONNECT is taken from net/http before the handler sees it: the
// handler lives as long as the tunnel, and net/http would hold 8 KiB of buffers
// and a deep stack for all that time. The connection has no further request
// either way.

// takeOver serves a CONNECT on HTTP/1.1 in a goroutine of its own. The caller's
// count of the request goes with it.
func (s *Server) takeOver(w http.ResponseWriter, r *http.Request, session *Session, done func()) {
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		defer done()
		http.Error(w, ErrNotTunnel.Error(), http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		done() // the connection is broken; net/http closes it
		return
	}
	secure, ok := conn.(halfConn)
	early := make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered.Reader, early); err != nil || !ok {
		_ = conn.Close()
		done()
		return
	}
	// net/http ends its context when its handler returns; ours ends with the session.
	ctx, cancel := context.WithCancel(withSession(context.Background(), session))
	session.whenOver(cancel)
	t := new(tunnel)
	r = r.WithContext(context.WithValue(ctx, tunnelKey, t))
	go func() {
		defer done()
		defer cancel()
		s.runTunnel(&connectAnswer{conn: secure, early: early}, r, t)
	}()
}

func (s *Server) runTunnel(a *connectAnswer, r *http.Request, t *tunnel) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			s.log.Error("panic in a tunnel", "service", r.Host, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		t.handlerDone()
		_ = a.conn.Close() // again, where a stream began
	}()
	s.config.Handler.ServeHTTP(a, r)
	if !a.taken {
		a.finish()
	}
}

// connectAnswer is the response writer of a CONNECT that was taken over. An
// answer that is no tunnel is small, and ends the connection.
type connectAnswer struct {
	conn   halfConn
	early  []byte
	taken  bool // it is a stream now
	header http.Header
	status int
	body   bytes.Buffer
}

// maxAnswerBytes bounds an answer that is no tunnel.
const maxAnswerBytes = 64 << 10

func (a *connectAnswer) Header() http.Header {
	if a.header == nil {
		a.header = make(http.Header)
	}
	return a.header
}

func (a *connectAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *connectAnswer) Write(p []byte) (int, error) {
	if a.taken {
		return 0, http.ErrHijacked
	}
	a.WriteHeader(http.StatusOK)
	if a.body.Len()+len(p) > maxAnswerBytes {
		return 0, http.ErrContentLength
	}
	return a.body.Write(p)
}

// accept turns the connection into the stream.
func (a *connectAnswer) accept(s *Session) (Stream, error) {
	if a.taken || a.status != 0 {
		return nil, ErrNotTunnel
	}
	a.taken = true
	if _, err := io.WriteString(a.conn, established); err != nil {
		_ = a.conn.Close()
		return nil, err
	}
	early := a.early
	a.early, a.header = nil, nil
	return newTLSStream(a.conn, s.link, s.ready, early), nil
}

// finish sends the answer. A handler that neither accepted nor answered has
// refused: a 200 would begin a tunnel (RFC 9110 §9.3.6).
func (a *connectAnswer) finish() {
	if a.status/100 == 2 || a.status == 0 {
		a.status = http.StatusInternalServerError
	}
	h := a.Header()
	h.Set("Content-Length", strconv.Itoa(a.body.Len()))
	h.Set("Connection", "close")
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_ = h.Write(&out) // to memory
	out.WriteString("\r\n")
	out.Write(a.body.Bytes())
	_, _ = a.conn.Write(out.Bytes()) // a peer that has gone needs no answer
}
