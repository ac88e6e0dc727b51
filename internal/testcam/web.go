package testcam

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// boundary parts the pictures of a stream; no JPEG of ours contains it, since
// each part tells its length.
const boundary = "keyhole-picture"

// page is filled in by hand: a template engine calls methods by their names, for
// which the linker would keep all methods of everything in keyhole, half a megabyte.
const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Test camera {name}</title>
<style>
 body { margin: 0; min-height: 100vh; display: grid; place-content: center; justify-items: center; gap: 1rem;
        background: #12161e; color: #8a96aa; font: 15px/1.5 system-ui, sans-serif }
 img { max-width: 94vw; height: auto; border-radius: 6px; box-shadow: 0 8px 40px #000a }
 code { color: #ffbe3c } a { color: #f4f6fa }
</style></head><body>
<img src="stream" width="{width}" height="{height}" alt="Live picture: colour bars, a clock and a moving ball">
<div>Keyhole test camera <code>{name}</code> · <a href="frame.jpg">one picture</a></div>
</body></html>
`

func (c *Camera) newWeb() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.servePage)
	mux.HandleFunc("GET /stream", c.serveStream)
	mux.HandleFunc("GET /frame.jpg", c.servePicture)
	return &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serveWeb(mux, w, r) }),
		ReadHeaderTimeout: writeTimeout,
		IdleTimeout:       sessionTimeout,
		MaxHeaderBytes:    16 << 10,
	}
}

// serveWeb counts each request among the tasks, so that Close waits for it.
func (c *Camera) serveWeb(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	select {
	case <-c.done: // Close may be waiting already: a task may not begin now
		c.mu.Unlock()
		return
	default:
		c.tasks.Add(1)
		c.mu.Unlock()
	}
	defer c.tasks.Done()
	mux.ServeHTTP(w, r)
}

func (c *Camera) servePage(w http.ResponseWriter, _ *http.Request) {
	size := c.film.painter.back.Rect
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'")
	fill := strings.NewReplacer("{name}", html.EscapeString(fmt.Sprint(c.name)),
		"{width}", strconv.Itoa(size.Dx()), "{height}", strconv.Itoa(size.Dy()))
	_, _ = fill.WriteString(w, page)
}

// watchWeb is watch with the refusal an HTTP client understands.
func (c *Camera) watchWeb(w http.ResponseWriter) *viewer {
	v, err := c.film.watch()
	if errors.Is(err, errFull) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the camera has as many viewers as it can serve", http.StatusServiceUnavailable)
		return nil
	}
	w.Header().Set("Cache-Control", "no-store")
	return v
}

func (c *Camera) servePicture(w http.ResponseWriter, r *http.Request) {
	v := c.watchWeb(w)
	if v == nil {
		return
	}
	defer v.leave()
	if f := c.next(r, v); f != nil {
		w.Header().Set("Content-Type", "image/jpeg")
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		w.Write(f.jpeg)
	}
}

// serveStream is what browsers show as a moving picture: parts that replace
// each other.
func (c *Camera) serveStream(w http.ResponseWriter, r *http.Request) {
	v := c.watchWeb(w)
	if v == nil {
		return
	}
	defer v.leave()
	w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary="+boundary)
	out := http.NewResponseController(w)
	for {
		f := c.next(r, v)
		if f == nil {
			return
		}
		out.SetWriteDeadline(time.Now().Add(writeTimeout))
		fmt.Fprintf(w, "--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", boundary, len(f.jpeg))
		w.Write(f.jpeg)
		if _, err := w.Write([]byte("\r\n")); err != nil || out.Flush() != nil {
			return
		}
	}
}

// next waits for a frame; nil when the client or the camera has gone.
func (c *Camera) next(r *http.Request, v *viewer) *frame {
	select {
	case f := <-v.frames:
		return f
	case <-r.Context().Done():
	case <-c.done:
	}
	return nil
}
