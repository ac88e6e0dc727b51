package daemon

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

const (
	// bodyTimeout is for the whole body of a request. Ours are under 1 kB. Without
	// it, strangers who never finish one would hold all places for unpaired
	// sessions: a session with a request under way is not idle.
	bodyTimeout = 10 * time.Second

	// answerTimeout is from the head of a request to the last byte of its answer.
	// It is above everything that a handler waits for (a press: 30 s) and ends the
	// peer that asks and does not read.
	answerTimeout = 60 * time.Second
)

// decode reads a JSON body within bodyTimeout.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	control := http.NewResponseController(w)
	// Where no deadline can be set there is no connection either.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	if err := api.DecodeRequest(w, r, v); err != nil {
		return err // and the deadline stays: net/http reads the rest before it answers
	}
	_ = control.SetReadDeadline(time.Time{})
	return nil
}

// routes is what a peer may ask for.
//
// It is matched here and not by http.ServeMux, which answers paths that are not
// clean, and HEAD, by rules of its own; what is not in the table to the letter is
// not there.
type routes []route

// find returns the route of a request, with the path's values set in it. Where
// there is only the path, allow lists the methods that it answers.
func (t routes) find(r *http.Request) (found route, ok bool, allow []string) {
	parts := strings.Split(r.URL.EscapedPath(), "/")
	for _, route := range t {
		values, fits := route.match(parts)
		switch {
		case !fits:
		case route.Method != r.Method:
			allow = append(allow, route.Method)
		default:
			for name, value := range values {
				r.SetPathValue(name, value)
			}
			return route, true, nil
		}
	}
	slices.Sort(allow)
	return route{}, false, allow
}

// match compares a path as it came, still escaped, so that a name with a slash
// in it stays one part. Values are unescaped once.
func (t route) match(parts []string) (values map[string]string, fits bool) {
	want := strings.Split(t.Path, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	for i, part := range want {
		name, isValue := strings.CutPrefix(part, "{")
		if !isValue {
			if part != parts[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(parts[i])
		if err != nil || value == "" {
			return nil, false
		}
		if values == nil {
			values = map[string]string{}
		}
		values[strings.TrimSuffix(name, "}")] = value
	}
	return values, true
}
