package session

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxRefusalBytes is how much of the device's explanation is kept; a problem
// document is a few hundred bytes.
const maxRefusalBytes = 16 << 10

// ConnectError is the device's answer to a Connect that it did not accept.
type ConnectError struct {
	Status      int    // HTTP status code
	ContentType string // of Body; application/problem+json as a rule
	Body        []byte // at most 16 KiB of it
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("the device refused the tunnel: %d %s", e.Status, strings.ToLower(http.StatusText(e.Status)))
}

func refused(response *http.Response) *ConnectError {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusalBytes)) // what came is what there is to tell
	return &ConnectError{Status: response.StatusCode, ContentType: response.Header.Get("Content-Type"), Body: body}
}
