package session

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

func selfSigned(t testing.TB, k crypto.Signer) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Whoever does not finish a proper handshake reaches no handler and leaves
// nothing behind.
func TestBadPeersAreRefusedBeforeARequest(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	var requests atomic.Int32
	d := startDevice(t, Limits{Handshake: time.Second}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	client := func(c *tls.Config) func(net.Conn) {
		return func(raw net.Conn) {
			c := c.Clone()
			c.InsecureSkipVerify = true
			conn := tls.Client(raw, c)
			_, _ = io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
			if b, _ := io.ReadAll(conn); len(b) > 0 {
				t.Errorf("got an answer: %q", b)
			}
		}
	}
	with := func(k crypto.Signer) func(net.Conn) {
		return client(&tls.Config{Certificates: []tls.Certificate{selfSigned(t, k)}})
	}
	bytesOf := func(b []byte) func(net.Conn) {
		return func(raw net.Conn) {
			_, _ = raw.Write(b)
			_, _ = io.Copy(io.Discard, raw) // until the device hangs up
		}
	}
	good := selfSigned(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	bad := map[string]func(net.Conn){
		"no certificate":   client(&tls.Config{}),
		"TLS 1.2":          client(&tls.Config{MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{good}}),
		"P-384":            with(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))),
		"RSA 1024":         with(must(rsa.GenerateKey(rand.Reader, 1024))),
		"plain HTTP":       bytesOf([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
		"garbage":          bytesOf(bytes.Repeat([]byte{0xa5}, 70_000)),
		"half a header":    bytesOf([]byte{22, 3, 1}),
		"half a record":    bytesOf([]byte{22, 3, 1, 2, 0, 1, 0, 1}),
		"oversized record": bytesOf(append([]byte{22, 3, 1, 0xff, 0xff}, make([]byte, 65_535)...)),
		"empty records":    bytesOf(bytes.Repeat([]byte{22, 3, 1, 0, 0}, 1000)),
		"nothing":          bytesOf(nil),
	}
	for name, try := range bad {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", d.tcp)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			try(raw)
		})
	}
	testnet.Until(t, "the door is empty", func() bool { return d.door.count() == 0 })
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were served", n)
	}
	if s := d.Sessions(); len(s) != 0 {
		t.Errorf("sessions: %+v", s)
	}
}

func TestAcceptedKeyKinds(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	for name, signer := range map[string]crypto.Signer{
		"P-256":    must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"Ed25519":  edwards,
		"RSA 2048": must(rsa.GenerateKey(rand.Reader, 2048)),
	} {
		k := must(identity.New(signer))
		for _, path := range []Path{PathTCP, PathQUIC} {
			if got := get(t, d.dial(t, k, path, -1), "/"); got != k.Fingerprint().String() {
				t.Errorf("%s over %s: seen as %q", name, path, got)
			}
		}
	}
}

// A client that meets the wrong device shows it neither its key nor a byte.
func TestWrongPinSendsNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type seen struct {
		certificates int
		err          error
	}
	saw := make(chan seen)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			saw <- seen{0, err}
			return
		}
		config := identity.ServerTLS(newKey(t), "h2")
		got := seen{}
		config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
			got.certificates = len(raw)
			return nil
		}
		conn := tls.Server(raw, config)
		got.err = conn.Handshake()
		_ = raw.Close()
		saw <- got
	}()
	_, err = Dial(context.Background(), []string{l.Addr().String()}, DialConfig{
		Key: newKey(t), Pin: identity.PinFingerprint(newKey(t).Fingerprint()), Paths: []Path{PathTCP},
	})
	var mismatch *identity.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("Dial: %v, want a mismatch", err)
	}
	if got := <-saw; got.certificates != 0 || got.err == nil {
		t.Errorf("the wrong device saw %d certificates, handshake error %v", got.certificates, got.err)
	}
}

func TestWrongPinOverQUIC(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	_, err := Dial(context.Background(), []string{d.quic}, DialConfig{
		Key: newKey(t), Pin: identity.PinFingerprint(newKey(t).Fingerprint()), Paths: []Path{PathQUIC},
	})
	if err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("Dial: %v, want a mismatch", err)
	}
	testnet.Until(t, "no session is left", func() bool { return d.door.count() == 0 && len(d.Sessions()) == 0 })
}

// A ticket saves work and no check: pin and access list are asked as before.
func TestResumptionSkipsNoCheck(t *testing.T) {
	for _, path := range []Path{PathTCP, PathQUIC} {
		t.Run(string(path), func(t *testing.T) {
			d := startDevice(t, Limits{}, nil)
			k, memory := newKey(t), NewResumption()
			d.pair(k, true)
			address := map[Path]string{PathTCP: d.tcp, PathQUIC: d.quic}[path]
			dial := func(pin identity.Pin) (Info, error) {
				c, err := Dial(context.Background(), []string{address}, DialConfig{
					Key: k, Pin: pin, Paths: []Path{path}, Resumption: memory, WarmConns: -1,
				})
				if err != nil {
					return Info{}, err
				}
				defer c.Close()
				if got := get(t, c, "/"); got != k.Fingerprint().String() {
					t.Errorf("seen as %s", got)
				}
				all := d.Sessions()
				return all[len(all)-1], nil
			}
			right := identity.PinFingerprint(d.key.Fingerprint())
			check := func(what string, resumed, paired bool) {
				t.Helper()
				info, err := dial(right)
				if err != nil || info.Resumed != resumed || info.Paired != paired || info.Peer != k.Fingerprint() {
					t.Errorf("%s: resumed %v paired %v peer %s, %v; want resumed %v paired %v", what, info.Resumed, info.Paired, info.Peer.Short(), err, resumed, paired)
				}
			}
			check("first", false, true)
			check("second", true, true)
			d.pair(k, false)
			check("after the key was taken off the list", true, false)
			check("again", true, false)
			if _, err := dial(identity.PinFingerprint(newKey(t).Fingerprint())); err == nil {
				t.Error("a resumed connection escaped the pin")
			}
			check("after a wrong pin, which drops the ticket", false, false)
			d.CloseSessions(func(Info) bool { return false })
			check("after tickets were forgotten", false, false)
		})
	}
}

func TestFloodEvictsItselfAndOwnerGetsIn(t *testing.T) {
	d := startDevice(t, Limits{Unauthenticated: 8}, nil)
	var raws []net.Conn
	for range 50 {
		raw, err := net.Dial("tcp", d.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raws = append(raws, raw)
	}
	testnet.Until(t, "the first was evicted", func() bool {
		_ = raws[0].SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := raws[0].Read(make([]byte, 1))
		var timeout net.Error
		return err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
	})
	if n := d.door.count(); n > 8 {
		t.Errorf("%d unauthenticated connections, limit 8", n)
	}
	k := newKey(t)
	d.pair(k, true)
	if got := get(t, d.dial(t, k, PathTCP, -1), "/"); got != k.Fingerprint().String() {
		t.Errorf("the owner is seen as %q", got)
	}
}

func TestOldestOfTheBusiestSourceGoes(t *testing.T) {
	from := func(s string) source { return sourceOf(addrPort(must(net.ResolveTCPAddr("tcp", s)))) }
	d := newDoor(4)
	var out []string
	visit := func(name, address string) {
		if !d.enter(&visitor{from: from(address), cut: func() { out = append(out, name) }}) {
			t.Errorf("%s was refused", name)
		}
	}
	visit("owner", "192.0.2.1:1")
	visit("a1", "[2001:db8::1]:1")
	visit("a2", "[2001:db8::2]:1") // the same /64
	visit("b", "192.0.2.2:1")
	visit("a3", "[2001:db8::3]:1")
	visit("a4", "[2001:db8::4]:1")
	if got := strings.Join(out, " "); got != "a1 a2" {
		t.Errorf("evicted %q, want a1 a2", got)
	}
}

// Half of the places, and an eighth for one source, is what QUIC may take.
func TestQUICCannotLockTCPOut(t *testing.T) {
	d := newDoor(defaultUnauthenticated)
	in := 0
	for i := range 1000 {
		a := &net.UDPAddr{IP: net.IPv4(10, 0, byte(i/20), 1), Port: 1}
		if d.enter(&visitor{from: sourceOf(addrPort(a))}) {
			in++
		}
	}
	if in != defaultUnauthenticated/quicShare {
		t.Errorf("%d QUIC handshakes at once, want %d", in, defaultUnauthenticated/quicShare)
	}
	if !d.enter(&visitor{cut: func() {}}) {
		t.Error("TCP is locked out")
	}
}

func TestFullHouseIsSaidClearly(t *testing.T) {
	d := startDevice(t, Limits{Unpaired: 1, Paired: 2, PerKey: 1}, nil)
	first := d.dial(t, newKey(t), PathTCP, -1)
	get(t, first, "/")
	second := d.dial(t, newKey(t), PathTCP, -1)
	if got := get(t, second, "/"); !strings.Contains(got, "Too many sessions") {
		t.Errorf("the second unpaired session got %q", got)
	}
	k := newKey(t)
	d.pair(k, true)
	get(t, d.dial(t, k, PathTCP, -1), "/")
	if got := get(t, d.dial(t, k, PathTCP, -1), "/"); !strings.Contains(got, "Too many sessions") {
		t.Errorf("the second session of one key got %q", got)
	}
	other := newKey(t)
	d.pair(other, true)
	if got := get(t, d.dial(t, other, PathTCP, -1), "/"); got != other.Fingerprint().String() {
		t.Errorf("another key got %q", got)
	}
	if _, err := Dial(context.Background(), []string{d.quic}, DialConfig{Key: other, Pin: identity.TrustAsFound, Paths: []Path{PathQUIC}}); err == nil {
		// The handshake may finish for the client before the refusal arrives.
		testnet.Until(t, "no third session", func() bool { return len(d.Sessions()) == 3 })
	}
	first.Close()
	testnet.Until(t, "the place is free", func() bool { return len(d.Sessions()) == 2 })
}

func TestDefaultsAreThePublishedFigures(t *testing.T) {
	got := Limits{}.withDefaults()
	if got.Unauthenticated != 128 || got.Unpaired != 32 || got.Paired != 256 || got.Handshake != 5*time.Second {
		t.Errorf("defaults %+v", got)
	}
}

func TestUnpairedIdleSessionEnds(t *testing.T) {
	d := startDevice(t, Limits{UnpairedIdle: 100 * time.Millisecond}, nil)
	stays := d.dial(t, newKey(t), PathTCP, -1)
	testnet.Until(t, "it is in", func() bool { return len(d.Sessions()) == 1 })
	d.register.all()[0].MarkPaired()
	c := d.dial(t, newKey(t), PathTCP, -1)
	q := d.dial(t, newKey(t), PathQUIC, -1)
	<-c.Done()
	<-q.Done()
	if get(t, stays, "/") == "" {
		t.Error("the session that was paired meanwhile is gone")
	}
	testnet.Until(t, "only the paired one is left", func() bool {
		s := d.Sessions()
		return len(s) == 1 && s[0].Paired
	})
}

func TestPanicEndsOneRequest(t *testing.T) {
	d := startDevice(t, Limits{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" || r.Host == "panic" {
			panic(http.ErrAbortHandler)
		}
		testHandler(w, r)
	}))
	for _, path := range []Path{PathTCP, PathQUIC} {
		bad, good := d.dial(t, newKey(t), path, -1), d.dial(t, newKey(t), path, -1)
		r, _ := http.NewRequest(http.MethodGet, "https://ignored/panic", nil)
		if response, err := bad.RoundTrip(r); err == nil {
			_, err = io.ReadAll(response.Body)
			if err == nil && response.StatusCode == http.StatusOK {
				t.Errorf("%s: the panic was a good answer", path)
			}
			response.Body.Close()
		}
		if path == PathTCP {
			conn, err := tls.Dial("tcp", d.tcp, identity.ClientTLS(newKey(t), identity.TrustAsFound, "http/1.1"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "CONNECT panic HTTP/1.1\r\nHost: panic\r\n\r\n")
			if b, _ := io.ReadAll(conn); len(b) > 0 {
				t.Errorf("a handler that panicked answered %q", b)
			}
			conn.Close()
		}
		if get(t, good, "/") == "" {
			t.Errorf("%s: the other session is hurt", path)
		}
	}
}

// No read crosses the end of a record's header or body.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 2, 1, 2, 23, 3, 3, 0, 0}, 3)
	f.Add([]byte{22, 3, 1, 0xff, 0xff}, 1)
	f.Add([]byte{22, 3, 1, 0, 0, 22, 3, 1, 0, 0}, 7)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		ends := make(map[int]bool)
		for at := 0; at+recordHeaderBytes <= len(stream); {
			header := stream[at : at+recordHeaderBytes]
			at += recordHeaderBytes
			ends[at] = true
			at += int(header[3])<<8 | int(header[4])
			ends[at] = true
		}
		var r records
		for at := 0; at < len(stream); {
			n := r.allow(min(1+step&63, len(stream)-at))
			if n < 1 {
				t.Fatalf("at %d: may read nothing", at)
			}
			for i := at + 1; i < at+n; i++ {
				if ends[i] {
					t.Fatalf("a read from %d to %d crosses %d", at, at+n, i)
				}
			}
			r.passed(stream[at : at+n])
			at += n
		}
	})
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'h', 'i', 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0, 9, 'c', 'u', 't'})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := &chunkReader{from: bytes.NewReader(wire)}
		got, err := io.ReadAll(r)
		if len(got) > len(wire) {
			t.Fatalf("%d bytes out of %d", len(got), len(wire))
		}
		if err != nil {
			return
		}
		// What was read to its end, put in chunks again, reads the same.
		var header [chunkHeaderBytes]byte
		var again bytes.Buffer
		if len(got) > 0 {
			putChunkHeader(&header, len(got))
			again.Write(header[:])
			again.Write(got)
		}
		putChunkHeader(&header, 0)
		again.Write(header[:])
		back, err := io.ReadAll(&chunkReader{from: &again})
		if err != nil || !bytes.Equal(back, got) {
			t.Fatalf("%x became %x, %v", got, back, err)
		}
	})
}
