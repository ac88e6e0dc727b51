package sim

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// tokenHeader carries the token. A header of its own cannot be sent by a form
// or an image of a foreign page.
const tokenHeader = "Keyhole-Token"

// policy lets the page use its own files and nothing else, and nobody frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func setFaceHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// refuse says why a request cannot come from our own page, or "".
func refuse(r *http.Request) string {
	if !ownHost(r) {
		return "the Host of the request is not this front panel"
	}
	if origin, sent := r.Header["Origin"]; sent && (len(origin) != 1 || origin[0] != "http://"+r.Host) {
		return "the request comes from another page"
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin":
	case "none": // typed, or a bookmark
		if r.Method != http.MethodGet {
			return "the request comes from no page"
		}
	case "cross-site", "same-site":
		// A link may lead here, and shows a page that can do nothing without the token.
		if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.URL.Path != "/" {
			return "the request comes from another page"
		}
	default:
		return "the request comes from another page"
	}
	return ""
}

// ownHost reports whether Host is a loopback name with the port on which the
// connection arrived. A request without a connection has none.
func ownHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	_, port, err := net.SplitHostPort(local.String())
	if err != nil {
		return false
	}
	host, named, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, named = strings.Trim(r.Host, "[]"), "80"
	}
	return named == port && (host == "localhost" || host == "127.0.0.1" || host == "::1")
}

// withToken lets a request pass that shows the token. Hashing first makes the
// comparison take one time for every length.
func (f *Face) withToken(next http.HandlerFunc) http.HandlerFunc {
	want := sha256.Sum256([]byte(f.options.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get(tokenHeader)))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "open the link that was printed: it carries the token", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}
