package sim

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"
)

// A stream is one page that watches. It also owns what that page holds: when
// the page is gone, its hands are off the buttons.
type stream struct {
	mu    sync.Mutex
	hands map[string]*Hand // guarded by mu, by button; nil once the page is gone
}

// hello is the first event of a stream.
type hello struct {
	Stream  string        `json:"stream"` // to be named in every edge
	Title   string        `json:"title"`
	Buttons []helloButton `json:"buttons"`
	Light   bool          `json:"light"`
	Display bool          `json:"display"`

	Watching bool `json:"watching"` // whether there is a light for those who watch
}

type helloButton struct {
	Name string `json:"name"`
	Hint string `json:"hint,omitempty"`
}

// look is a State as the page is told it.
type look struct {
	Bits    []byte   `json:"bits"` // Picture.Bits, base64
	Words   []string `json:"words"`
	Pattern string   `json:"pattern"`
	Lit     bool     `json:"lit"`
	Down    []string `json:"down"`

	Watching bool `json:"watching"`
}

// watch is GET /events: server-sent events "hello" and "look", the latter
// whenever something changed.
func (f *Face) watch(w http.ResponseWriter, r *http.Request) {
	id, s := f.enter()
	if s == nil {
		http.Error(w, "too many pages watch this front panel", http.StatusServiceUnavailable)
		return
	}
	defer f.leave(id, s)
	changed, stop := f.board.Changed()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	err := send(w, "hello", f.hello(id))
	for err == nil {
		if err = send(w, "look", lookOf(f.board.State())); err != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
		case <-f.board.gone:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (f *Face) enter() (id string, s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.streams) >= maxStreams {
		return "", nil
	}
	id, s = rand.Text(), &stream{hands: make(map[string]*Hand)}
	f.streams[id] = s
	return id, s
}

func (f *Face) leave(id string, s *stream) {
	f.mu.Lock()
	delete(f.streams, id)
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hand := range s.hands {
		hand.Release()
	}
	s.hands = nil
}

func (f *Face) hello(id string) hello {
	front := f.board.HAL()
	h := hello{Stream: id, Title: f.options.Title, Light: front.Light != nil, Display: front.Display != nil, Watching: front.Watching != nil}
	for _, name := range front.Names() {
		h.Buttons = append(h.Buttons, helloButton{Name: name, Hint: f.options.Hints[name]})
	}
	return h
}

func lookOf(s State) look {
	return look{
		Bits:    s.Picture.Bits[:],
		Words:   append([]string{}, s.Picture.Words...),
		Pattern: s.Pattern.String(),
		Lit:     s.Lit,
		Down:    append([]string{}, s.Down...),

		Watching: s.Watching,
	}
}

func send(w http.ResponseWriter, event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, text); err != nil {
		return err
	}
	return out.Flush()
}

// edgeRequest is the body of POST /edge.
type edgeRequest struct {
	Stream string `json:"stream"`
	Button string `json:"button"`
	Down   bool   `json:"down"`
}

var errNotEdge = errors.New(`want one object {"stream": "…", "button": "…", "down": true or false}`)

// parseEdge reads an edge and nothing beside it.
func parseEdge(body []byte) (edgeRequest, error) {
	var e edgeRequest
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		return edgeRequest{}, errNotEdge
	}
	if _, err := decoder.Token(); err != io.EOF || e.Stream == "" || e.Button == "" {
		return edgeRequest{}, errNotEdge
	}
	return e, nil
}

// edge is POST /edge: a page's hand goes down on a button, or up.
func (f *Face) edge(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "want application/json", http.StatusUnsupportedMediaType)
		return
	}
	// A body that does not come must not hold the connection. Where there is no
	// deadline, there is no network either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEdgeBytes))
	if err != nil {
		http.Error(w, "the body is too long or did not come", http.StatusRequestEntityTooLarge)
		return
	}
	e, err := parseEdge(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	s := f.streams[e.Stream]
	f.mu.Unlock()
	switch err := s.move(f.board, e); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNoButton):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

var errNoStream = errors.New("the page does not watch: a button is held only while it does")

// move puts the page's hand on a button or takes it off; doing so twice is
// harmless. A nil stream is one that nobody has.
func (s *stream) move(b *Board, e edgeRequest) error {
	if s == nil {
		return errNoStream
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	hand := s.hands[e.Button]
	switch {
	case s.hands == nil:
		return errNoStream
	case !e.Down && hand != nil:
		delete(s.hands, e.Button)
		hand.Release()
		return nil
	case e.Down == (hand != nil):
		return nil
	}
	hand, err := b.Hold(e.Button)
	if err == nil {
		s.hands[e.Button] = hand
	}
	return err
}
