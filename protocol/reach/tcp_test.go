package reach

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/protocol/attach"
)

func listen(t *testing.T) (l net.Listener, at netip.AddrPort) {
	t.Helper()
	for {
		l, err := ListenReusable(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		at := l.Addr().(*net.TCPAddr).AddrPort()
		// The port may be free on this address alone: another program's connection
		// from it, of another address, would keep us from connecting from it.
		everywhere, err := ListenReusable(t.Context(), "tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()).String())
		if err == nil {
			everywhere.Close()
			return l, at
		}
	}
}

// serveOne answers the next connection to l.
func serveOne(l net.Listener, handle func(net.Conn)) {
	go func() {
		if conn, err := l.Accept(); err == nil {
			handle(conn)
			conn.Close()
		}
	}()
}

// accepting brings what l accepts, until it is closed; after the end of ctx that is
// closed at once.
func accepting(ctx context.Context, l net.Listener) <-chan net.Conn {
	c := make(chan net.Conn)
	go func() {
		defer close(c)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case c <- conn:
			case <-ctx.Done():
				conn.Close()
			}
		}
	}()
	return c
}

// The base sees the very port that is listened on, again and again, and the
// connection lives until it is closed.
func TestObserve(t *testing.T) {
	defer goleak.VerifyNone(t)
	base, baseAt := listen(t)
	defer base.Close()
	l, own := listen(t)
	defer l.Close()
	for range 3 {
		ended := make(chan struct{})
		serveOne(base, func(conn net.Conn) {
			defer close(ended)
			kind, _ := attach.ReadStreamKind(conn)
			if _, err := attach.ReadPreface(conn, kind); err != nil || kind != attach.StreamObserve {
				t.Errorf("preface: %v, %v", kind, err)
			}
			_, _ = conn.Write(attach.AppendSeen(nil, conn.RemoteAddr().(*net.TCPAddr).AddrPort()))
			_, _ = io.Copy(io.Discard, conn)
		})
		seen, conn, err := Observe(t.Context(), int(own.Port()), baseAt)
		if err != nil {
			t.Fatal(err)
		}
		if seen != own {
			t.Errorf("seen at %v, want %v", seen, own)
		}
		select {
		case <-ended:
			t.Error("the connection ended by itself")
		default:
		}
		conn.Close()
		<-ended
	}
}

func TestObserveFails(t *testing.T) {
	defer goleak.VerifyNone(t)
	base, at := listen(t)
	defer base.Close()
	for _, c := range []struct {
		name   string
		answer []byte
		want   error
	}{
		{"nothing", nil, io.EOF},
		{"half", []byte{6, 192, 0}, io.ErrUnexpectedEOF},
		{"an odd length", []byte{7, 1, 2, 3, 4, 5, 6, 7}, attach.ErrMalformed},
		{"no port", []byte{6, 192, 0, 2, 1, 0, 0}, attach.ErrMalformed},
		{"multicast", []byte{6, 224, 0, 0, 1, 1, 1}, ErrObserved},
	} {
		serveOne(base, func(conn net.Conn) {
			_, _ = io.ReadFull(conn, make([]byte, 2))
			_, _ = conn.Write(c.answer)
		})
		if seen, conn, err := Observe(t.Context(), 0, at); !errors.Is(err, c.want) || conn != nil || seen.IsValid() {
			t.Errorf("%s: %v, %v, want %v", c.name, seen, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	serveOne(base, func(conn net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	})
	if _, _, err := Observe(ctx, 0, at); err == nil {
		t.Error("Observe ended well, and nobody answered")
	}
	base.Close()
	if _, _, err := Observe(t.Context(), 0, at); err == nil {
		t.Error("Observe ended well, and nobody listened")
	}
}

// Two peers meet, whoever is first, and each with a listener on the same port.
func TestMeetTCP(t *testing.T) {
	defer goleak.VerifyNone(t)
	for range 10 {
		a, atA := listen(t)
		b, atB := listen(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		results := make(chan net.Conn, 2)
		meet := func(l net.Listener, own, other netip.AddrPort) {
			results <- <-MeetTCP(ctx, int(own.Port()), []netip.AddrPort{other}, accepting(ctx, l))
		}
		go meet(a, atA, atB)
		go meet(b, atB, atA)
		one, two := <-results, <-results
		if one == nil || two == nil {
			t.Fatal("they did not meet")
		}
		if one.LocalAddr().String() != two.RemoteAddr().String() || two.LocalAddr().String() != one.RemoteAddr().String() {
			t.Errorf("%v-%v is not the other end of %v-%v", one.LocalAddr(), one.RemoteAddr(), two.LocalAddr(), two.RemoteAddr())
		}
		cancel()
		one.Close()
		two.Close()
		a.Close()
		b.Close()
	}
}

// A peer that never comes costs three tries of an address, and the channel ends.
func TestMeetTCPIsBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, own := listen(t)
	silent, at := listen(t)
	silent.Close() // refuses from now on
	began := time.Now()
	peers := []netip.AddrPort{at, at, ap("224.0.0.1:1"), ap("0.0.0.0:1")}
	if conn, ok := <-MeetTCP(t.Context(), int(own.Port()), peers, nil); ok {
		t.Errorf("met %v", conn.RemoteAddr())
	}
	if took := time.Since(began); took < (meetTries-1)*meetPause {
		t.Errorf("gave up after %v", took)
	}
	if _, ok := <-MeetTCP(t.Context(), int(own.Port()), peers[2:], accepting(t.Context(), l)); ok {
		t.Error("met nobody's address")
	}
	l.Close()
}

// Whoever is no peer and happens to connect is put off; what nobody takes is closed.
func TestMeetTCPTakesPeersOnly(t *testing.T) {
	defer goleak.VerifyNone(t)
	accepted := make(chan net.Conn)
	ctx, cancel := context.WithCancel(t.Context())
	met := MeetTCP(ctx, 0, aps("127.0.0.2:1"), accepted) // nobody listens there
	ends := func(from string) net.Conn {
		here, there := net.Pipe()
		accepted <- addressed{there, net.TCPAddrFromAddrPort(ap(from))}
		return here
	}
	stranger := ends("127.0.0.3:7443")
	if _, err := stranger.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a stranger's connection: %v, want closed", err)
	}
	peer := ends("127.0.0.2:9999")
	conn := <-met
	if conn == nil || conn.RemoteAddr().String() != "127.0.0.2:9999" {
		t.Fatalf("met %v", conn)
	}
	conn.Close()
	unwanted := ends("127.0.0.2:9998")
	cancel()
	if _, err := unwanted.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that nobody took: %v, want closed", err)
	}
	for conn := range met {
		t.Errorf("met %v after the end", conn.RemoteAddr())
	}
	stranger.Close()
	peer.Close()
	unwanted.Close()
}

// addressed is a connection that says it comes from elsewhere.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }

func TestRelayLeg(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, at := listen(t)
	dead, nowhere := listen(t)
	dead.Close()
	ticket := attach.NewTicket()
	got := make(chan []byte, 1)
	serveOne(l, func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		got <- b
	})
	conn, err := RelayLeg(t.Context(), []netip.AddrPort{nowhere, at}, ticket)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("hello"))
	conn.Close()
	if b, want := <-got, append(attach.AppendRelayPreface(nil, ticket), "hello"...); string(b) != string(want) {
		t.Errorf("the relay got %x, want %x", b, want)
	}
	l.Close()
	for _, addresses := range [][]netip.AddrPort{nil, {nowhere}, {nowhere, at}} {
		if conn, err := RelayLeg(t.Context(), addresses, ticket); err == nil {
			t.Errorf("%v: a leg to %v", addresses, conn.RemoteAddr())
		} else if len(addresses) == 0 && !errors.Is(err, ErrNoAddress) {
			t.Errorf("no addresses: %v", err)
		}
	}
}

// A second listener of the same user on the port is what SO_REUSEPORT brings, and
// one without it is refused.
func TestListenReusable(t *testing.T) {
	l, at := listen(t)
	if plain, err := net.Listen("tcp4", at.String()); err == nil {
		plain.Close()
		t.Error("a listener that shares nothing got the port")
	}
	again, err := ListenReusable(t.Context(), "tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	l.Close()
}

// Two introductions at once ask over one connection, and a third one later asks
// again.
func TestObserver(t *testing.T) {
	defer goleak.VerifyNone(t)
	base, at := listen(t)
	defer base.Close()
	l, own := listen(t)
	defer l.Close()
	conns := accepting(t.Context(), base)
	answer := func() net.Conn {
		conn, ok := <-conns
		if !ok {
			return nil // the test has failed
		}
		_, _ = io.ReadFull(conn, make([]byte, 2))
		_, _ = conn.Write(attach.AppendSeen(nil, conn.RemoteAddr().(*net.TCPAddr).AddrPort()))
		return conn
	}
	var o Observer
	for range 2 {
		var releases []func()
		answered := make(chan net.Conn, 1)
		go func() { answered <- answer() }() // buffered: nobody may wait for it
		for range 2 {
			seen, release, err := o.Observe(t.Context(), int(own.Port()), at)
			if err != nil || seen != own {
				t.Fatalf("seen at %v, %v, want %v", seen, err, own)
			}
			releases = append(releases, release)
		}
		conn := <-answered
		releases[0]()
		releases[0]() // counts once
		select {
		case another := <-conns:
			t.Errorf("a second connection from %v", another.RemoteAddr())
		default:
		}
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Errorf("the connection ended while it was used: %v", err)
		}
		releases[1]()
		_, _ = io.Copy(io.Discard, conn) // ends now
		conn.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, ok := <-conns
		cancel()
		if !ok {
			return
		}
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}()
	if _, _, err := o.Observe(ctx, int(own.Port()), at); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	base.Close()
	for range conns {
	}
	if _, _, err := o.Observe(t.Context(), int(own.Port()), at); err == nil {
		t.Error("nobody listened, and there was an answer")
	}
	if len(o.asks) != 0 {
		t.Errorf("%d questions are left", len(o.asks))
	}
}
