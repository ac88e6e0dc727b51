//go:build unix

package readiness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a real connection.
func pair(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	address := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "s")}[network]
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secured puts TLS 1.3 over both ends; the reader is the server's.
func secured(t testing.TB) (client, server *tls.Conn, raw net.Conn, reader Reader) {
	t.Helper()
	raw, b := pair(t, "tcp4")
	gate, ok := NewGate(b)
	if !ok {
		t.Fatal("no gate over TCP")
	}
	client = tls.Client(&switchable{raw}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	server = tls.Server(gate, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return client, server, raw, gate.Over(server)
}

// each runs f with the writing end, and the Reader and connection of the other.
func each(t *testing.T, f func(t *testing.T, w net.Conn, r Reader, conn net.Conn)) {
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		t.Run(network, func(t *testing.T) {
			a, b := pair(t, network)
			r, ok := Of(b)
			if !ok {
				t.Fatalf("a %s socket is no Reader", network)
			}
			f(t, a, r, b)
		})
	}
	t.Run("tls", func(t *testing.T) {
		client, server, _, r := secured(t)
		f(t, client, r, server)
	})
}

func nothing(t *testing.T, r Reader) {
	t.Helper()
	if n, err := r.TryRead(make([]byte, 8)); n != 0 || err != nil {
		t.Fatalf("TryRead = %d, %v, want 0 and nil while nothing is there", n, err)
	}
}

// waited is the next TryRead that has something to tell.
func waited(t *testing.T, r Reader, p []byte) (int, error) {
	t.Helper()
	for {
		if n, err := r.TryRead(p); n > 0 || err != nil {
			return n, err
		}
		if err := r.WaitRead(); err != nil {
			return 0, err
		}
	}
}

func TestBytesAreReadWhenTheyCome(t *testing.T) {
	each(t, func(t *testing.T, w net.Conn, r Reader, _ net.Conn) {
		nothing(t, r)
		woken := make(chan error)
		go func() { woken <- r.WaitRead() }()
		if _, err := w.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := <-woken; err != nil {
			t.Fatalf("WaitRead = %v", err)
		}
		p := make([]byte, 3)
		for _, want := range []string{"hel", "lo"} {
			n, err := waited(t, r, p)
			if got := string(p[:n]); got != want || err != nil {
				t.Fatalf("TryRead = %q, %v, want %q", got, err, want)
			}
		}
		nothing(t, r)
	})
}

// The runtime forgets an event that comes before the wait begins: WaitRead has
// to ask the kernel, or it would sleep with bytes at the door.
func TestWaitSeesBytesThatWereThereBefore(t *testing.T) {
	each(t, func(t *testing.T, w net.Conn, r Reader, _ net.Conn) {
		p := make([]byte, 8)
		for range 1000 {
			nothing(t, r)
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := r.WaitRead(); err != nil {
				t.Fatal(err)
			}
			if n, err := waited(t, r, p); n != 1 || err != nil {
				t.Fatalf("TryRead = %d, %v", n, err)
			}
		}
	})
}

func TestEndIsEOF(t *testing.T) {
	each(t, func(t *testing.T, w net.Conn, r Reader, conn net.Conn) {
		nothing(t, r)
		if err := w.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := waited(t, r, make([]byte, 8)); n != 0 || err != io.EOF {
			t.Fatalf("TryRead = %d, %v, want EOF", n, err)
		}
		// The other direction still works: it was a half-close.
		if _, err := conn.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(w, got); err != nil || string(got) != "late" {
			t.Fatalf("after the half-close: %q, %v", got, err)
		}
	})
}

func TestDeadlineAndCloseEndTheWait(t *testing.T) {
	each(t, func(t *testing.T, w net.Conn, r Reader, conn net.Conn) {
		nothing(t, r)
		if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := r.WaitRead(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("WaitRead = %v, want the deadline", err)
		}
		if _, err := r.TryRead(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("TryRead = %v, want the deadline", err)
		}
		// A deadline poisons nothing: what comes after it is read.
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := waited(t, r, make([]byte, 8)); n != 1 || err != nil {
			t.Fatalf("after the deadline was lifted: %d, %v", n, err)
		}
		nothing(t, r)
		woken := make(chan error)
		go func() { woken <- r.WaitRead() }()
		conn.Close()
		if err := <-woken; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("WaitRead = %v, want ErrClosed", err)
		}
	})
}

// Part of a TLS record is nothing to read, and no harm: the rest completes it.
func TestHalfARecordIsKept(t *testing.T) {
	client, _, raw, r := secured(t)
	// The client's record is made aside, so that it can be cut in two.
	var record bytes.Buffer
	aside := &recorder{Conn: raw, to: &record}
	swap(t, client, aside)
	want := bytes.Repeat([]byte("keyhole "), 100) // small enough for one record
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	all := record.Bytes()
	for _, part := range [][]byte{all[:3], all[3:700], all[700 : len(all)-1]} {
		if _, err := raw.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := r.WaitRead(); err != nil {
			t.Fatal(err)
		}
		nothing(t, r)
	}
	if _, err := raw.Write(all[len(all)-1:]); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, len(want))
	for p := make([]byte, 4096); len(got) < len(want); {
		n, err := waited(t, r, p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the record was damaged on its way")
	}
}

// A Gate whose TLS is read in the ordinary way is an ordinary connection.
func TestGateReadWaits(t *testing.T) {
	client, server, _, r := secured(t)
	nothing(t, r)
	got := make(chan string)
	go func() {
		p := make([]byte, 8)
		n, _ := server.Read(p)
		got <- string(p[:n])
	}()
	if _, err := client.Write([]byte("plain")); err != nil {
		t.Fatal(err)
	}
	if g := <-got; g != "plain" {
		t.Fatalf("Read = %q", g)
	}
}

func TestWhatCannotTellIsNoReader(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, ok := Of(a); ok {
		t.Error("a pipe claims to be a Reader")
	}
	// A type that embeds a socket may buffer above it.
	tcp, _ := pair(t, "tcp4")
	if _, ok := Of(struct{ net.Conn }{tcp}); ok {
		t.Error("a wrapper of unknown kind claims to be a Reader")
	}
	if _, ok := NewGate(a); ok {
		t.Error("a gate over a pipe")
	}
}

func TestReadingASocketAllocatesNothing(t *testing.T) {
	a, b := pair(t, "tcp4")
	r, _ := Of(b)
	p, one := make([]byte, 64), []byte("x")
	got := testing.AllocsPerRun(1000, func() {
		if _, err := a.Write(one); err != nil {
			t.Fatal(err)
		}
		if err := r.WaitRead(); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := r.TryRead(p)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				return
			}
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for a wait and a read, want 0", got)
	}
}
