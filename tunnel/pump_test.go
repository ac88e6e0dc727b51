package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ends returns both ends of a real connection.
func ends(t testing.TB, network string) (a, b Conn) {
	t.Helper()
	address := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "s")}[network]
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x.(Conn), y.(Conn)
}

// mute hides everything but the methods of Conn, as a stream that cannot tell
// when bytes are there does.
type mute struct{ Conn }

// pumped is a Pump at work between two real connections; the test holds the
// outer ends.
type pumped struct {
	client, service Conn
	report          chan Report
	cut             context.CancelCauseFunc
}

func startPump(t testing.TB, p Pump, network string, hide bool) *pumped {
	t.Helper()
	client, in := ends(t, network)
	out, service := ends(t, network)
	if hide {
		in, out = mute{in}, mute{out}
	}
	ctx, cut := context.WithCancelCause(t.Context())
	w := &pumped{client: client, service: service, report: make(chan Report, 1), cut: cut}
	finished := make(chan struct{})
	go func() { defer close(finished); w.report <- p.Run(ctx, in, out) }()
	t.Cleanup(func() { cut(nil); <-finished })
	return w
}

func eachKind(t *testing.T, f func(t *testing.T, network string, hide bool)) {
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		t.Run(network, func(t *testing.T) { f(t, network, false) })
	}
	t.Run("mute", func(t *testing.T) { f(t, "tcp4", true) })
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write %.40q: %v", s, err)
	}
}

func expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	p := make([]byte, len(want))
	if n, err := io.ReadFull(c, p); err != nil || string(p) != want {
		t.Fatalf("read %.200q, %v, want %.200q", p[:n], err, want)
	}
}

func expectEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v, want the end", n, err)
	}
}

func closeWrite(t testing.TB, c Conn) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func TestHalfCloseByClientThenAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, hide bool) {
		w := startPump(t, Pump{}, network, hide)
		send(t, w.client, "question")
		closeWrite(t, w.client)
		expect(t, w.service, "question")
		expectEnd(t, w.service)
		send(t, w.service, "a longer answer")
		expect(t, w.client, "a longer answer")
		closeWrite(t, w.service)
		expectEnd(t, w.client)
		r := <-w.report
		if r.Up != 8 || r.Down != 15 || r.Why != WhyClient || r.Err != nil || r.Duration <= 0 {
			t.Errorf("report %+v", r)
		}
	})
}

func TestHalfCloseByServiceThenMore(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, hide bool) {
		w := startPump(t, Pump{}, network, hide)
		send(t, w.service, "220 hello")
		closeWrite(t, w.service)
		expect(t, w.client, "220 hello")
		expectEnd(t, w.client)
		send(t, w.client, "still talking")
		expect(t, w.service, "still talking")
		closeWrite(t, w.client)
		expectEnd(t, w.service)
		if r := <-w.report; r.Up != 13 || r.Down != 9 || r.Why != WhyService || r.Err != nil {
			t.Errorf("report %+v", r)
		}
	})
}

func TestBulkArrivesWhole(t *testing.T) {
	const size = 20 << 20
	eachKind(t, func(t *testing.T, network string, hide bool) {
		w := startPump(t, Pump{}, network, hide)
		block := bytes.Repeat([]byte("0123456789abcdef~"), 10_007)
		go func() {
			for sent := 0; sent < size; sent += len(block) {
				if _, err := w.service.Write(block); err != nil {
					return
				}
			}
			w.service.CloseWrite()
		}()
		want, got := sha256.New(), sha256.New()
		total := int64(0)
		for ; total < size; total += int64(len(block)) {
			want.Write(block)
		}
		n, err := io.Copy(got, w.client)
		if n != total || err != nil || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
			t.Fatalf("%d of %d bytes, %v", n, total, err)
		}
		w.client.Close()
		if r := <-w.report; r.Down != total || r.Why != WhyService {
			t.Errorf("report %+v", r)
		}
	})
}

func TestCutEndsBothSidesAbruptly(t *testing.T) {
	w := startPump(t, Pump{}, "tcp4", false)
	send(t, w.client, "x")
	expect(t, w.service, "x")
	cause := errors.New("revoked")
	w.cut(cause)
	if r := <-w.report; r.Why != WhyCut || r.Err != cause || r.Up != 1 {
		t.Errorf("report %+v", r)
	}
	for name, c := range map[string]Conn{"client": w.client, "service": w.service} {
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("the %s read %v, want a reset: the end was no orderly one", name, err)
		}
	}
}

// A service that breaks off must not look to the client as one that finished.
func TestResetIsPassedOn(t *testing.T) {
	w := startPump(t, Pump{}, "tcp4", false)
	send(t, w.client, "x")
	expect(t, w.service, "x")
	w.service.(*net.TCPConn).SetLinger(0)
	w.service.Close()
	if r := <-w.report; r.Why != WhyService || r.Err == nil {
		t.Errorf("report %+v", r)
	}
	if _, err := w.client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the client read %v, want a reset", err)
	}
}

// What the service said before it stopped reading still arrives.
func TestLastWordsOfAServiceThatStopsReading(t *testing.T) {
	w := startPump(t, Pump{}, "tcp4", false)
	send(t, w.service, "413 too large")
	w.service.(*net.TCPConn).CloseRead()
	w.service.Close()
	expect(t, w.client, "413 too large")
	expectEnd(t, w.client)
	w.client.Close()
	if r := <-w.report; r.Down != 13 {
		t.Errorf("report %+v", r)
	}
}

// noHalf is a stream that cannot say it is done without ending.
type noHalf struct{ Conn }

func (noHalf) CloseWrite() error { return errors.ErrUnsupported }

func TestWithoutHalfCloseTheEndEndsBoth(t *testing.T) {
	client, in := ends(t, "tcp4")
	out, service := ends(t, "tcp4")
	report := make(chan Report, 1)
	go func() { report <- Pump{}.Run(t.Context(), in, noHalf{out}) }()
	send(t, client, "bye")
	closeWrite(t, client)
	expect(t, service, "bye")
	expectEnd(t, service)
	if r := <-report; r.Why != WhyClient || r.Err != nil || r.Up != 3 {
		t.Errorf("report %+v", r)
	}
}
