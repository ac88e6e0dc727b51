package client

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// guard keeps web pages of others out of a service's local port. Any page may
// send requests to a loopback port: by a name of its own that leads to 127.0.0.1
// (DNS rebinding), by a form, an image or a WebSocket. A browser cannot be made
// to lie about three things, and each request is asked for them:
//
//   - Host must be localhost, a loopback address or <service>.localhost, with
//     the right port. A rebound name is another one.
//   - Origin, where there is one, must be such a name too. Forms that POST,
//     fetch from elsewhere and every WebSocket carry it.
//   - Sec-Fetch-Site, where there is one, must be same-origin or none. "same-site"
//     is refused as well: to a browser all ports of localhost are one site.
//
// Programs that are no browser send neither of the last two and pass.
type guard struct {
	service string
	port    int // 0: a Unix socket, where any port will do
	next    http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		refuseWeb(w, http.StatusMethodNotAllowed, "CONNECT is not for local ports")
	case !g.ours(r.Host):
		refuseWeb(w, http.StatusMisdirectedRequest, fmt.Sprintf(
			"the Host %.80q is not one of this port: it answers to localhost, loopback addresses and %s.localhost, with its own port", r.Host, g.service))
	case !g.fromUs(r.Header.Values("Origin")):
		refuseWeb(w, http.StatusForbidden, fmt.Sprintf("a page of %.80q may not use this port", strings.Join(r.Header.Values("Origin"), ", ")))
	case !sameSite(r.Header.Values("Sec-Fetch-Site")):
		refuseWeb(w, http.StatusForbidden, "another page led here, or asks in your name: type the address yourself")
	default:
		g.next.ServeHTTP(w, r)
	}
}

// ours tells whether host, as in a Host header, names this port.
func (g *guard) ours(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "80"
		if bare, ok := strings.CutPrefix(host, "["); ok {
			if name, ok = strings.CutSuffix(bare, "]"); !ok {
				return false
			}
		} else if strings.Contains(host, ":") {
			return false
		}
	}
	if g.port != 0 && port != strconv.Itoa(g.port) {
		return false
	}
	name = strings.ToLower(name)
	if name == "localhost" || name == g.service+".localhost" {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Zone() == "" && a.Unmap().IsLoopback()
}

// fromUs tells whether a request's origins are none but this port.
func (g *guard) fromUs(origins []string) bool {
	for _, o := range origins {
		host, ok := strings.CutPrefix(o, "http://")
		if !ok || !g.ours(host) {
			return false
		}
	}
	return len(origins) <= 1
}

func sameSite(values []string) bool {
	for _, v := range values {
		if v != "same-origin" && v != "none" {
			return false
		}
	}
	return len(values) <= 1
}

func refuseWeb(w http.ResponseWriter, status int, why string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "keyhole: "+why+"\n")
}
