package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A wiretap passes a leg on to the relay and keeps every byte of it.
type wiretap struct {
	net.Conn
	mu   sync.Mutex
	seen bytes.Buffer
}

func (w *wiretap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.keep(p[:n])
	return n, err
}

func (w *wiretap) Write(p []byte) (int, error) {
	w.keep(p)
	return w.Conn.Write(p)
}

func (w *wiretap) keep(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Write(p)
}

// What the relay moves is a TLS session of two keys that it does not have:
// neither what is said nor who says it is among the bytes.
func TestRelayedBytesTellNothing(t *testing.T) {
	w := newWorld(t, Config{})
	keys := [2]*identity.Key{}
	for i := range keys {
		var err error
		if keys[i], err = identity.Generate(); err != nil {
			t.Fatal(err)
		}
	}
	ct, dt := w.pair(camera)
	legs := [2]*wiretap{{Conn: w.dial(ct)}, {Conn: w.dial(dt)}}
	const question = "GET /v1/secret-of-the-household HTTP/1.1"
	answer := strings.Repeat("the password of the camera is 20 Tulips; ", 1000)

	var served sync.WaitGroup
	served.Go(func() {
		conn := tls.Server(legs[device], identity.ServerTLS(keys[device]))
		got := make([]byte, len(question))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != question {
			t.Errorf("the device got %q, %v", got, err)
		}
		io.WriteString(conn, answer)
		conn.Close()
	})
	conn := tls.Client(legs[client], identity.ClientTLS(keys[client], identity.PinFingerprint(keys[device].Fingerprint())))
	if _, err := io.WriteString(conn, question); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != answer {
		t.Errorf("the client got %d bytes, %v", len(got), err)
	}
	served.Wait()
	conn.Close()
	u := w.use()

	for side, leg := range legs {
		leg.mu.Lock()
		bytesSeen := leg.seen.Bytes()
		leg.mu.Unlock()
		if int64(len(bytesSeen)) < u.Up+u.Down-100 || len(bytesSeen) < len(answer) {
			t.Errorf("leg %d: %d bytes seen of %d relayed", side, len(bytesSeen), u.Up+u.Down)
		}
		for _, secret := range []string{question, "secret-of-the", "password", "20 Tulips", answer[:64]} {
			if bytes.Contains(bytesSeen, []byte(secret)) {
				t.Errorf("leg %d shows %q", side, secret)
			}
		}
		// TLS 1.3 seals certificates too: not even the keys are seen.
		for i, key := range keys {
			f := key.Fingerprint()
			if bytes.Contains(bytesSeen, f[:]) || bytes.Contains(bytesSeen, []byte(key.ID())) {
				t.Errorf("leg %d names key %d", side, i)
			}
		}
	}
	// The test can fail: the same search finds what is not sealed.
	if !bytes.Contains([]byte(answer), []byte("20 Tulips")) {
		t.Error("the search finds nothing at all")
	}
}
