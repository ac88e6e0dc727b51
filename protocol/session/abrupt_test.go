package session

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
	"github.com/keyholed/keyhole/protocol/identity"
)

// endings is a device whose handler tells how its side of a tunnel ended.
func endings() (h http.Handler, ended chan error) {
	ended = make(chan error, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			testHandler(w, r)
			return
		}
		s, err := Accept(w, r)
		if err != nil { // reset between our answer and here
			ended <- err
			return
		}
		defer s.Close()
		switch r.Host {
		case "resets":
			_, _ = io.ReadFull(s, make([]byte, 1))
			_, _ = io.WriteString(s, "half of it")
			_ = s.Reset()
		case "ready":
			ended <- readReady(s)
		default:
			_, err := io.WriteString(s, "hello")
			if err == nil {
				_, err = io.Copy(io.Discard, s)
			}
			ended <- err
		}
	}), ended
}

// readReady reads to the end as the bridge does.
func readReady(s Stream) error {
	r, ok := s.(readiness.Reader)
	if !ok {
		_, err := io.Copy(io.Discard, s)
		return err
	}
	buf := make([]byte, 100)
	for {
		n, err := r.TryRead(buf)
		if err == io.EOF {
			return nil
		}
		if err == nil && n == 0 {
			err = r.WaitRead()
		}
		if err != nil {
			return err
		}
	}
}

func eachEnding(t *testing.T, f func(t *testing.T, c *Client, w *tcpWire, bulk bool, ended chan error)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			h, ended := endings()
			d := startDevice(t, Limits{}, h)
			k := newKey(t)
			d.pair(k, true)
			w := newTCPWire(t, d.tcp)
			address, warm := w.address, -1
			if way.path == PathQUIC {
				address = d.quic
			}
			if way.bulk {
				warm = 1
			}
			c, err := Dial(context.Background(), []string{address}, DialConfig{
				Key: k, Pin: identity.PinFingerprint(d.key.Fingerprint()), Paths: []Path{way.path}, WarmConns: warm,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			warmed(t, c, way.bulk)
			f(t, c, w, way.bulk, ended)
		})
	}
}

func TestResetByTheDeviceIsNoEnd(t *testing.T) {
	eachEnding(t, func(t *testing.T, c *Client, _ *tcpWire, bulk bool, _ chan error) {
		s := open(t, c, "resets", bulk)
		if _, err := s.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		wantCut(t, s)
	})
}

func TestResetByTheClientIsNoEnd(t *testing.T) {
	for _, service := range []string{"tells", "ready"} {
		eachEnding(t, func(t *testing.T, c *Client, _ *tcpWire, bulk bool, ended chan error) {
			s := open(t, c, service, bulk)
			if _, err := io.WriteString(s, "half of it"); err != nil {
				t.Fatal(err)
			}
			if err := s.Reset(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err == nil {
				t.Error("the device saw an orderly end")
			}
			if _, err := io.ReadAll(s); err == nil { // behind what TLS has decrypted already
				t.Error("our own side reads like the end")
			}
			_ = s.Close()
			if _, err := s.Write([]byte{1}); err == nil {
				t.Error("our own Write went well")
			}
		})
	}
}

// After CloseWrite the answer can still be cut off, without a trace of an end.
func TestResetAfterHalfClose(t *testing.T) {
	eachEnding(t, func(t *testing.T, c *Client, _ *tcpWire, bulk bool, ended chan error) {
		s := open(t, c, "tells", bulk)
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the device saw %v instead of the end", err)
		}
		if err := s.Reset(); err != nil {
			t.Error(err)
		}
	})
}

// A FIN of whoever sits on the wire is not an end that a peer has told.
func TestTruncationIsNoEnd(t *testing.T) {
	for _, service := range []string{"tells", "ready"} {
		eachEnding(t, func(t *testing.T, c *Client, w *tcpWire, bulk bool, ended chan error) {
			if c.Path() == PathQUIC {
				return // has no end that is not authenticated
			}
			s := open(t, c, service, bulk)
			if service == "tells" {
				if _, err := io.ReadFull(s, make([]byte, len("hello"))); err != nil {
					t.Fatal(err)
				}
			}
			w.finish()
			if err := readReady(s); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the client saw %v, want an unexpected EOF", err)
			}
			if err := <-ended; err == nil || bulk && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the device saw %v, want an unexpected EOF", err)
			}
		})
	}
}

// A client that knows nothing of our framing is told as well.
func TestResetReachesForeignHTTP2Clients(t *testing.T) {
	h, _ := endings()
	d := startDevice(t, Limits{}, h)
	transport := &http.Transport{TLSClientConfig: identity.ClientTLS(newKey(t), identity.TrustAsFound), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	up, w := io.Pipe()
	defer w.Close()
	r, _ := http.NewRequest(http.MethodConnect, "https://"+d.tcp, up)
	r.Host = "resets"
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := w.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("it reads like the end")
	}
}

func wantCut(t *testing.T, s Stream) {
	t.Helper()
	_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(s); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v; want an error", b, err)
	}
}
