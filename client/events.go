package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/keyholed/keyhole/protocol/api"
)

const (
	// maxEventLine and maxEventBytes bound one server-sent event. Ours are a
	// few hundred bytes.
	maxEventLine  = 64 << 10
	maxEventBytes = 256 << 10
)

// ErrEventTooLong means that the device sent an event that is out of all proportion.
var ErrEventTooLong = errors.New("event too long")

// Events is what happens at a device from now on. Close ends it.
type Events struct {
	body   io.Closer
	parser eventParser
	cancel context.CancelFunc
}

// Events subscribes to what happens at the device.
func (c *Conn) Events(ctx context.Context) (*Events, error) {
	ctx, cancel := context.WithCancel(ctx)
	response, err := c.Do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	err = Success(response)
	if kind, _, bad := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil && (bad != nil || kind != "text/event-stream") {
		err = errors.New("the device's answer is no event stream")
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, response.Body.Close())
	}
	return &Events{body: response.Body, parser: newEventParser(response.Body), cancel: cancel}, nil
}

// Next waits for the next event. The error is io.EOF when the device has ended
// the stream.
func (e *Events) Next() (api.Event, error) {
	data, err := e.parser.next()
	if err != nil {
		return api.Event{}, err
	}
	var ev api.Event
	if err := json.Unmarshal(data, &ev); err != nil {
		return api.Event{}, fmt.Errorf("event not understood: %w", err)
	}
	return ev, nil
}

// Close ends the subscription.
func (e *Events) Close() error {
	e.cancel()
	return e.body.Close()
}

// eventParser reads text/event-stream (HTML Living Standard §9.2.6) as far as it
// is needed: the data of events, comments skipped.
type eventParser struct {
	lines *bufio.Scanner
	data  []byte
	first bool
}

func newEventParser(r io.Reader) eventParser {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxEventLine)
	lines.Split(splitEventLine)
	return eventParser{lines: lines, first: true}
}

// next returns the data of the next event that has some, valid until the next
// call. An event that the stream's end cut short is dropped, as the standard has it.
func (p *eventParser) next() ([]byte, error) {
	p.data = p.data[:0]
	seen := false
	for p.lines.Scan() {
		line := p.lines.Bytes()
		if p.first { // a byte order mark may begin the stream
			line, p.first = trimBOM(line), false
		}
		if len(line) == 0 {
			if seen {
				return p.data[:len(p.data)-1], nil // without the last line feed
			}
			continue
		}
		value, ok := dataField(line)
		if !ok {
			continue
		}
		seen = true
		if len(p.data)+len(value)+1 > maxEventBytes {
			return nil, ErrEventTooLong
		}
		p.data = append(append(p.data, value...), '\n')
	}
	if err := p.lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, ErrEventTooLong
		}
		return nil, err
	}
	return nil, io.EOF
}

func trimBOM(line []byte) []byte {
	if len(line) >= 3 && line[0] == 0xEF && line[1] == 0xBB && line[2] == 0xBF {
		return line[3:]
	}
	return line
}

// dataField returns the value of a line of the field "data".
func dataField(line []byte) ([]byte, bool) {
	const name = "data"
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return nil, false
	}
	rest := line[len(name):]
	if len(rest) == 0 {
		return nil, true
	}
	if rest[0] != ':' {
		return nil, false
	}
	rest = rest[1:]
	if len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return rest, true
}

// splitEventLine ends lines at CR, LF or CR LF.
func splitEventLine(data []byte, atEOF bool) (int, []byte, error) {
	for i, c := range data {
		switch {
		case c == '\n':
			return i + 1, data[:i], nil
		case c == '\r' && i+1 < len(data):
			if data[i+1] == '\n' {
				return i + 2, data[:i], nil
			}
			return i + 1, data[:i], nil
		case c == '\r' && atEOF:
			return i + 1, data[:i], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
