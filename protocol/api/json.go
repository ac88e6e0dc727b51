package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// MaxBodyBytes is the limit of a JSON request body. The largest request that
// makes sense, a pairing with two names, is under 1 kB.
const MaxBodyBytes = 16 << 10

// maxDepth of nested JSON. No request of ours goes deeper than 3.
const maxDepth = 16

// DecodeRequest reads the JSON body of a request into v. Every fault is a
// *Problem that names it: too large, another media type, malformed, an unknown
// field, a value of the wrong type, something behind the end.
func DecodeRequest(w http.ResponseWriter, r *http.Request, v any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return Problemf(CodeMedia, "send the body as application/json")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return Problemf(CodeTooLarge, "the body is larger than %d bytes", MaxBodyBytes)
		}
		return Problemf(CodeMalformed, "the body ended early")
	}
	return Decode(data, v)
}

// Decode reads one JSON document strictly. Its errors are *Problem.
func Decode(data []byte, v any) error {
	if err := checkDepth(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return Problemf(CodeMalformed, "%s", describe(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Problemf(CodeMalformed, "there is more than one JSON document in the body")
	}
	return nil
}

// checkDepth refuses deep nesting before encoding/json walks it, and keys that
// occur twice in one object: two readers could each believe another one.
func checkDepth(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		keys map[string]bool // nil in an array
		key  bool            // the next string is a key
	}
	var stack []level
	for {
		token, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return Problemf(CodeMalformed, "%s", describe(err))
		}
		top := len(stack) - 1
		if top >= 0 && stack[top].key {
			if name, ok := token.(string); ok {
				folded := strings.ToLower(name) // encoding/json matches names without case
				if stack[top].keys[folded] {
					return Problemf(CodeMalformed, "the field %s is there twice", strconv.Quote(clip(name)))
				}
				stack[top].keys[folded] = true
				stack[top].key = false
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
		}
		if len(stack) > maxDepth {
			return Problemf(CodeMalformed, "nested more than %d deep", maxDepth)
		}
		if n := len(stack); n > 0 && stack[n-1].keys != nil && token != json.Delim('{') {
			stack[n-1].key = true
		}
	}
}

func describe(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON: an error at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		if kind.Field == "" {
			return fmt.Sprintf("a JSON %s in place of an object", kind.Value)
		}
		return fmt.Sprintf("the field %q cannot be a %s", kind.Field, kind.Value)
	case errors.Is(err, io.EOF):
		return "the body is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "not JSON: it ends early"
	}
	// Unknown fields and the errors of our own UnmarshalText methods.
	return clip(strings.TrimPrefix(err.Error(), "json: "))
}

// clip keeps a stranger's text short in an answer.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// WriteJSON sends v as the whole answer with status 200.
func WriteJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		WriteProblem(w, Problemf(CodeInternal, "the answer could not be written"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	// An error here means that the peer has gone; there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}
