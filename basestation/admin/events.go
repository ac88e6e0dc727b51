package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// eventQueue is how far one reader may be behind before it is cut.
	eventQueue = 1024
	// heartbeat keeps proxies and NATs from forgetting a quiet stream.
	heartbeat = 25 * time.Second
	// eventWrite is how long one write to a reader may take.
	eventWrite = 10 * time.Second
)

// events streams what happens from now on. A reader that is too slow is cut, and
// comes back; what it missed it missed.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if s.Events == nil {
		return api.Problemf(api.CodeUnavailable, "this basestation has no events")
	}
	query, err := queryOf(r, "device")
	if err != nil {
		return err
	}
	device := query.Get("device")
	if _, err := identity.ParseID(device); device != "" && err != nil {
		return api.Problemf(api.CodeMalformed, "device: %v", err)
	}
	queue, slow := make(chan []byte, eventQueue), make(chan struct{}, 1)
	stop, err := s.Events.Subscribe(s.Pattern, func(_ string, data []byte, _ func([]byte)) {
		if !isOf(data, device) {
			return
		}
		select {
		case queue <- data:
		default:
			select {
			case slow <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &stream{w: w, patience: s.eventWrite, control: http.NewResponseController(w)}
	if out.send(": from now on\n\n") != nil {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.stopping.Done():
			return nil
		case <-slow:
			_ = out.send(": too slow\n\n")
			return nil
		case <-beat.C:
			err = out.send(":\n\n")
		case data := <-queue:
			err = out.send(frame(data))
		}
		if err != nil {
			return nil // the reader has gone
		}
	}
}

// isOf reports whether an event is one of the device; "" is any.
func isOf(data []byte, device string) bool {
	if device == "" {
		return true
	}
	var e struct {
		Device string `json:"device"`
	}
	return json.Unmarshal(data, &e) == nil && e.Device == device
}

// frame is an event on the wire (HTML, section 9.2.6). The data is JSON without
// line ends; anything else is left out.
func frame(data []byte) string {
	var flat bytes.Buffer
	if json.Compact(&flat, data) != nil {
		return ""
	}
	var e struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
	}
	if json.Unmarshal(data, &e) != nil {
		return ""
	}
	return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", line(e.ID), line(e.Kind), flat.Bytes())
}

// line keeps text on one line of a stream.
func line(text string) string {
	return string(bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return -1
		}
		return r
	}, []byte(text)))
}

type stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration // eventWrite
}

func (s *stream) send(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) // the server's own deadline is for answers that end
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
