package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo is a service that says everything back; it returns its address.
func echo(t testing.TB, network string) string {
	t.Helper()
	address := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "s")}[network]
	return serve(t, network, address, func(c Conn) { io.Copy(c, c); c.CloseWrite() })
}

func serve(t testing.TB, network, address string, handle func(Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); handle(c.(Conn)) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// through opens a service and runs the tunnel; the test holds the client's end.
func through(t testing.TB, b *Bridge, m Meta, s Service) (Conn, chan Report) {
	t.Helper()
	tun, err := b.Open(t.Context(), m, s)
	if err != nil {
		t.Fatal(err)
	}
	client, in := ends(t, "tcp4")
	report := make(chan Report, 1)
	go func() { report <- tun.Run(t.Context(), in) }()
	return client, report
}

func TestBridgeReachesEveryKindOfTarget(t *testing.T) {
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	for name, address := range map[string]string{
		"ipv4": echo(t, "tcp4"), "ipv6": echo(t, "tcp6"), "unix": "unix:" + echo(t, "unix"), "name": "localhost:" + port(echo(t, "tcp4")),
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			b := NewBridge(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			client, report := through(t, b, Meta{Peer: "f1", User: "alice", Path: "tcp", Remote: "192.0.2.7:4000"}, mustService(t, "echo", "tcp", address))
			send(t, client, "hello")
			expect(t, client, "hello")
			for len(b.List()) == 1 && b.List()[0].Up == 0 {
				runtime.Gosched() // a byte is counted after it was delivered
			}
			if l := b.List(); len(l) != 1 || l[0].Service != "echo" || l[0].Meta.User != "alice" || l[0].Up != 5 || l[0].Number != 1 || l[0].Since.IsZero() {
				t.Errorf("List() = %+v", l)
			}
			closeWrite(t, client)
			expectEnd(t, client)
			if r := <-report; r.Up != 5 || r.Down != 5 || r.Why != WhyClient {
				t.Errorf("report %+v", r)
			}
			for _, want := range []string{"tunnel ended", "peer=f1", "user=alice", "service=echo", "path=tcp", "up=5", "down=5", "duration=", `why="client closed"`} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("log %q has no %q", log.String(), want)
				}
			}
			if strings.Count(log.String(), "\n") != 1 {
				t.Errorf("want one line, got %q", log.String())
			}
			if c := b.Counts(); c.Total != 0 || len(b.List()) != 0 {
				t.Errorf("after the end: %+v", c)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	b := NewBridge(Config{PerPeer: 2, Total: 3})
	s := mustService(t, "echo", "rtsp", echo(t, "tcp4"))
	open := func(peer string) (*Tunnel, error) {
		tun, err := b.Open(t.Context(), Meta{Peer: peer}, s)
		if err == nil {
			t.Cleanup(func() { tun.Close() })
		}
		return tun, err
	}
	first, err := open("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := open("a"); err != ErrPeerLimit {
		t.Errorf("third tunnel of a peer: %v, want ErrPeerLimit", err)
	}
	if _, err := open("b"); err != nil {
		t.Fatal(err)
	}
	if _, err := open("c"); err != ErrTotalLimit {
		t.Errorf("fourth tunnel: %v, want ErrTotalLimit", err)
	}
	if c := b.Counts(); c.Total != 3 || c.Media != 3 || c.ByType["rtsp"] != 3 {
		t.Errorf("Counts() = %+v", c)
	}
	// A place given back is free for anybody, and given back only once.
	first.Close()
	first.Close()
	if _, err := open("c"); err != nil {
		t.Errorf("after a tunnel was closed: %v", err)
	}
	if _, err := open("c"); err != ErrTotalLimit {
		t.Errorf("after it was taken: %v, want ErrTotalLimit", err)
	}
	b.Close()
	if _, err := open("d"); err != ErrClosed {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	c := NewBridge(Config{}).config
	if c.PerPeer != 32 || c.Total != 128 || c.Dial != 5*time.Second {
		t.Errorf("defaults %+v", c)
	}
	if p := (Pump{}).withDefaults(); p.Idle != 2*time.Hour || p.HalfIdle != 10*time.Minute || p.Stall != 5*time.Minute {
		t.Errorf("defaults %+v", p)
	}
}

func TestDownIsToldAtOnceAndGivesThePlaceBack(t *testing.T) {
	b := NewBridge(Config{PerPeer: 1})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	for _, c := range []struct{ address, want string }{
		{closed, "connection refused"},
		{"unix:" + filepath.Join(t.TempDir(), "none"), "its socket is missing"},
	} {
		_, err := b.Open(t.Context(), Meta{Peer: "a"}, mustService(t, "cam", "rtsp", c.address))
		var down *DownError
		if !errors.As(err, &down) || down.Service != "cam" || down.Reason != c.want {
			t.Errorf("%s: %v, want down: %s", c.address, err, c.want)
		}
		if strings.Contains(down.Reason, "127.0.0.1") || b.Counts().Total != 0 {
			t.Errorf("%s: reason %q, %d tunnels", c.address, down.Reason, b.Counts().Total)
		}
	}
}

// A name that resolves to one of our own listeners is found when it is dialled.
func TestOwnListenerBehindAName(t *testing.T) {
	address := echo(t, "tcp4")
	_, port, _ := net.SplitHostPort(address)
	b := NewBridge(Config{Own: func(network, a string) bool { return network == "tcp" && strings.HasSuffix(a, ":"+port) }})
	_, err := b.Open(t.Context(), Meta{}, mustService(t, "self", "tcp", "localhost:"+port))
	var down *DownError
	if !errors.As(err, &down) || down.Reason != "misconfigured" {
		t.Errorf("Open = %v, want misconfigured", err)
	}
}

func TestReloadLeavesOpenTunnelsAlone(t *testing.T) {
	b := NewBridge(Config{})
	table, err := NewTable([]Service{mustService(t, "echo", "tcp", echo(t, "tcp4"))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.SetServices(table)
	s, _ := b.Services().Lookup("echo")
	client, report := through(t, b, Meta{}, s)
	send(t, client, "before")
	expect(t, client, "before")
	b.SetServices(nil)
	if _, ok := b.Services().Lookup("echo"); ok {
		t.Error("the old service is still there")
	}
	send(t, client, "after")
	expect(t, client, "after")
	client.Close()
	<-report
}

func TestCutEndsThoseThatMatch(t *testing.T) {
	b := NewBridge(Config{})
	s := mustService(t, "echo", "tcp", echo(t, "tcp4"))
	_, gone := through(t, b, Meta{Peer: "bad"}, s)
	client, stays := through(t, b, Meta{Peer: "good"}, s)
	cause := errors.New("revoked")
	if n := b.Cut(func(l Live) bool { return l.Meta.Peer == "bad" }, cause); n != 1 {
		t.Errorf("Cut = %d, want 1", n)
	}
	if r := <-gone; r.Why != WhyCut || r.Err != cause {
		t.Errorf("report %+v", r)
	}
	send(t, client, "still here")
	expect(t, client, "still here")
	b.Close()
	if r := <-stays; r.Why != WhyCut {
		t.Errorf("report %+v", r)
	}
}

// Two goroutines a tunnel beside the caller's own, and none left after.
func TestGoroutinesOfManyTunnels(t *testing.T) {
	const tunnels = 64
	b := NewBridge(Config{PerPeer: tunnels})
	// A service whose connections cost no goroutine.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := mustService(t, "quiet", "tcp", l.Addr().String())
	before := runtime.NumGoroutine()
	ctx, cut := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range tunnels {
		tun, err := b.Open(ctx, Meta{}, s)
		if err != nil {
			t.Fatal(err)
		}
		service, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close()
		client, in := ends(t, "tcp4")
		all.Go(func() { tun.Run(ctx, in) })
		send(t, client, "x")
		expect(t, service, "x") // it runs
	}
	if got := runtime.NumGoroutine() - before; got > 3*tunnels {
		t.Errorf("%d goroutines for %d tunnels, want two each and the caller's", got, tunnels)
	}
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	flows, runs := bytes.Count(stacks, []byte("tunnel.(*flow).run(")), bytes.Count(stacks, []byte("tunnel.Pump.Run("))
	if flows != 2*tunnels || runs != tunnels {
		t.Errorf("%d flows and %d callers for %d tunnels", flows, runs, tunnels)
	}
	cut()
	all.Wait()
}

func TestProbe(t *testing.T) {
	say := func(line string) string {
		return serve(t, "tcp4", "127.0.0.1:0", func(c Conn) { io.WriteString(c, line); c.Read(make([]byte, 512)) })
	}
	b := NewBridge(Config{})
	for _, c := range []struct{ typ, line, want string }{
		{"rtsp", "RTSP/1.0 200 OK\r\n", ""},
		{"http", "HTTP/1.1 401 Unauthorized\r\n", ""},
		{"ssh", "SSH-2.0-OpenSSH_9.2\r\n", ""},
		{"tcp", "", ""},
		{"ssh", "HTTP/1.1 400 Bad Request\r\n", "does not answer as ssh"},
		{"http", "SSH-2.0-x\r\n", "does not answer as http"},
	} {
		err := b.Probe(t.Context(), mustService(t, "s", c.typ, say(c.line)))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("probe %s of %q: %v, want %q", c.typ, c.line, err, c.want)
		}
	}
}
