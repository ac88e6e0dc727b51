// Package api is the vocabulary of the device's HTTP interface: the resource
// types, the problem documents that say no, the rules for reading JSON from
// strangers, and the OpenAPI description made from a table of operations. The
// operator's interface at a basestation speaks with the same words.
//
// Device and client both use it, so that a field exists once. It holds no
// handlers, asks nobody for permission and opens no connection.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
)

// A Code is the closed list of reasons that a peer is told. The log of the
// device keeps the rest.
type Code string

// Codes, with the HTTP status that each comes with.
const (
	CodeMalformed   Code = "malformed"    // 400: not JSON, an unknown or missing field, a bad value
	CodeToken       Code = "token"        // 401: no token, or one that is not valid; of a basestation alone
	CodeForbidden   Code = "forbidden"    // 403: the key may not do this
	CodeClosed      Code = "closed"       // 403: no pairing now, or not for this caller
	CodeNotFound    Code = "not-found"    // 404: told only to those who may list
	CodeMethod      Code = "method"       // 405
	CodeTimeout     Code = "timeout"      // 408: nobody pressed, or a step took too long
	CodeConflict    Code = "conflict"     // 409: would break a rule, such as the last owner leaving
	CodeNameTaken   Code = "name-taken"   // 409: suggestion names a free one
	CodeBusy        Code = "busy"         // 409: somebody else is pairing
	CodeAborted     Code = "aborted"      // 409: the pairing was ended, at the device or by a second asker
	CodeTooLarge    Code = "too-large"    // 413
	CodeMedia       Code = "media-type"   // 415
	CodeLimit       Code = "limit"        // 429: too many of these at once
	CodeInternal    Code = "internal"     // 500
	CodeServiceDown Code = "service-down" // 502: the camera does not answer
	CodeUnavailable Code = "unavailable"  // 503: the device cannot do it now, such as a full disk
)

var statusOf = map[Code]int{
	CodeMalformed: 400, CodeToken: 401, CodeForbidden: 403, CodeClosed: 403, CodeNotFound: 404, CodeMethod: 405,
	CodeTimeout: 408, CodeConflict: 409, CodeNameTaken: 409, CodeBusy: 409, CodeAborted: 409,
	CodeTooLarge: 413, CodeMedia: 415, CodeLimit: 429, CodeInternal: 500, CodeServiceDown: 502, CodeUnavailable: 503,
}

// ProblemMediaType marks a body as a problem document (RFC 9457 §3).
const ProblemMediaType = "application/problem+json"

// problemTypePrefix and a Code make the type member. Nothing is served there:
// RFC 9457 §3.1.1 asks for an identifier, not for a page.
const problemTypePrefix = "keyhole:problem/"

// A Problem is an RFC 9457 document and, as an error, what a client reports.
type Problem struct {
	Type   string `json:"type"`             // "keyhole:problem/" and the code
	Title  string `json:"title"`            // the code in words, the same every time
	Status int    `json:"status"`           // HTTP status
	Detail string `json:"detail,omitempty"` // what, why if the asker may know, what to do

	// Suggestion is a free name, with CodeNameTaken only.
	Suggestion string `json:"suggestion,omitempty"`
	// RetryAfter is in seconds, with CodeLimit where time is what helps; also as the
	// header of that name.
	RetryAfter int `json:"retry_after,omitempty"`
}

var titles = map[Code]string{
	CodeMalformed: "The request cannot be understood", CodeToken: "A valid token is needed", CodeForbidden: "Not permitted", CodeClosed: "Pairing is not open to you now",
	CodeNotFound: "Not found", CodeMethod: "Method not allowed", CodeTimeout: "It took too long", CodeConflict: "Against a rule",
	CodeNameTaken: "The name is taken", CodeBusy: "Somebody else is pairing", CodeAborted: "The pairing was ended",
	CodeTooLarge: "Too large", CodeMedia: "Wrong media type", CodeLimit: "Too many at once", CodeInternal: "A mistake of the server",
	CodeServiceDown: "The service does not answer", CodeUnavailable: "Not possible now",
}

// Problemf makes a problem document.
func Problemf(code Code, format string, args ...any) *Problem {
	return &Problem{
		Type: problemTypePrefix + string(code), Title: titles[code], Status: statusOf[code],
		Detail: fmt.Sprintf(format, args...),
	}
}

// Code returns the reason, or "" for a document of somebody else's.
func (p *Problem) Code() Code {
	if len(p.Type) <= len(problemTypePrefix) || p.Type[:len(problemTypePrefix)] != problemTypePrefix {
		return ""
	}
	return Code(p.Type[len(problemTypePrefix):])
}

func (p *Problem) Error() string {
	switch {
	case p.Detail != "":
		return p.Detail
	case p.Title != "":
		return p.Title
	}
	return "HTTP status " + strconv.Itoa(p.Status)
}

// IsCode reports whether err is, or wraps, a Problem with this code.
func IsCode(err error, code Code) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code() == code
}

// WriteProblem sends p as the whole answer.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil { // cannot happen: strings and a number
		http.Error(w, p.Title, p.Status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", ProblemMediaType)
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(p.Status)
	// An error here means that the peer has gone; there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}

// maxProblemBytes bounds what a client reads of a refusal.
const maxProblemBytes = 16 << 10

// ReadProblem makes an error of an answer that is not a success, whatever its
// body. It reads at most 16 KiB and does not close body.
func ReadProblem(status int, contentType string, body io.Reader) *Problem {
	p := &Problem{Status: status, Title: http.StatusText(status)}
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != ProblemMediaType {
		return p
	}
	var read Problem
	if err := json.NewDecoder(io.LimitReader(body, maxProblemBytes)).Decode(&read); err == nil {
		read.Status = status
		return &read
	}
	return p
}
