package session

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// clientStream is the client's side of a tunnel in an HTTP/2 stream. The
// request's body is one end of a pipe whose other end is written here; the
// response's body is read ahead by one goroutine, because HTTP knows no read
// deadlines and a net.Conn has them.
type clientStream struct {
	up            net.Conn // end of the pipe; its deadlines are the write deadlines
	body          net.Conn // its other end
	cancel        context.CancelFunc
	local, remote net.Addr
	ahead         *readAhead
	once          sync.Once
}

func newClientStream(response *http.Response, up, body net.Conn, cancel context.CancelFunc, local, remote net.Addr) *clientStream {
	from := io.Reader(response.Body)
	if response.Header.Get(chunksHeader) == chunksValue {
		from = &chunkReader{from: from}
	}
	return &clientStream{up: up, body: body, cancel: cancel, local: local, remote: remote, ahead: startReadAhead(from, response.Body)}
}

func (s *clientStream) Read(p []byte) (int, error) { return s.ahead.Read(p) }

func (s *clientStream) Write(p []byte) (int, error) {
	n, err := s.up.Write(p)
	if err == io.ErrClosedPipe {
		err = net.ErrClosed
	}
	return n, err
}

// CloseWrite ends the request's body.
func (s *clientStream) CloseWrite() error { return s.up.Close() }

// Close ends both directions. What was written before is sent: the end of the
// request's body goes out behind it, and the stream is given up only when the
// device does not end it in time.
func (s *clientStream) Close() error {
	s.once.Do(func() {
		_ = s.up.Close()
		s.ahead.drain(s.cancel)
	})
	return nil
}

// Reset is RST_STREAM: the request's body fails instead of ending.
func (s *clientStream) Reset() error {
	s.once.Do(func() {
		s.cancel()
		_ = s.body.Close()
		s.ahead.drain(s.cancel)
	})
	return nil
}

func (s *clientStream) SetReadDeadline(t time.Time) error {
	s.ahead.deadline(t)
	return nil
}

func (s *clientStream) SetWriteDeadline(t time.Time) error { return s.up.SetWriteDeadline(t) }

func (s *clientStream) SetDeadline(t time.Time) error {
	s.ahead.deadline(t)
	return s.up.SetWriteDeadline(t)
}

func (s *clientStream) LocalAddr() net.Addr  { return s.local }
func (s *clientStream) RemoteAddr() net.Addr { return s.remote }

// closeLinger is how long a closed stream may still be sent on before it is
// given up: the end of what was written goes out at once, and a device that
// sends more meanwhile sends it for nothing.
const closeLinger = time.Second

// aheadBytes is what is read ahead: one HTTP/2 frame.
const aheadBytes = 16 << 10

// readAhead gives a reader deadlines. Its goroutine ends with the reader.
type readAhead struct {
	mu      sync.Mutex
	changed *sync.Cond
	data    []byte // read, not taken yet
	err     error  // behind data
	closed  bool
	late    bool // the deadline has passed
	timer   *time.Timer
	body    io.Closer
	done    chan struct{} // closed when the goroutine has ended
	given   chan struct{} // closed when a closed stream is given up
}

func startReadAhead(from io.Reader, body io.Closer) *readAhead {
	r := &readAhead{body: body, done: make(chan struct{}), given: make(chan struct{})}
	r.changed = sync.NewCond(&r.mu)
	go r.run(from)
	return r
}

func (r *readAhead) run(from io.Reader) {
	defer close(r.done)
	buffer := make([]byte, aheadBytes)
	drained := 0
	for {
		n, err := from.Read(buffer)
		r.mu.Lock()
		if r.closed {
			drained += n
		}
		r.data, r.err = buffer[:n], err
		r.changed.Broadcast()
		for len(r.data) > 0 && !r.closed {
			r.changed.Wait()
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if drained > clientStreamWindow {
			// It does not end, it streams. Flow control holds it for the rest
			// of the time; reading on would have it send at full speed.
			<-r.given
			return
		}
	}
}

func (r *readAhead) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.closed:
			return 0, net.ErrClosed
		case r.late:
			return 0, os.ErrDeadlineExceeded
		case len(r.data) > 0:
			n := copy(p, r.data)
			if r.data = r.data[n:]; len(r.data) == 0 {
				r.changed.Broadcast()
			}
			return n, nil
		case r.err != nil:
			return 0, r.err
		case len(p) == 0:
			return 0, nil
		}
		r.changed.Wait()
	}
}

func (r *readAhead) deadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	r.late = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		r.late = true
		r.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.timer == timer {
			r.late = true
			r.changed.Broadcast()
		}
	})
	r.timer = timer
}

// drain lets the goroutine run dry and has cancel called when the stream has
// ended, or after closeLinger.
func (r *readAhead) drain(cancel context.CancelFunc) {
	r.deadline(time.Time{})
	r.mu.Lock()
	r.closed = true
	r.changed.Broadcast()
	r.mu.Unlock()
	late := time.AfterFunc(closeLinger, func() {
		close(r.given)
		cancel()
	})
	go func() {
		<-r.done
		late.Stop()
		_ = r.body.Close()
		cancel()
	}()
}
