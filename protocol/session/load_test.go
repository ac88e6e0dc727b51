package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// maxHostileRSS is what a device may take while everybody is against it.
const maxHostileRSS = 64 << 20

// TestHostileLoad has a device with the default limits, in a process of its own,
// meet half-open connections, hostile TLS peers and a QUIC flood all at once,
// and looks at its memory and whether the owner gets in. KEYHOLE_FULL=1 is the
// count of a release.
func TestHostileLoad(t *testing.T) {
	if known := os.Getenv("KEYHOLE_SESSION_OWNER"); known != "" {
		runAttackedDevice(known)
		return
	}
	halfOpen, peers, datagrams, patience := 1000, 100, 1000, 20*time.Second
	if os.Getenv("KEYHOLE_FULL") != "" {
		halfOpen, peers, datagrams, patience = 10_000, 1000, 10_000, 2*time.Second
	}
	owner := newKey(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostileLoad$")
	cmd.Stderr = os.Stderr
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOMEMLIMIT=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "KEYHOLE_SESSION_OWNER="+owner.Fingerprint().String())
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
	}()
	line := make([]byte, 128)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	addresses := strings.Fields(string(line[:n]))
	before := statusKiB(t, cmd.Process.Pid, "VmRSS")

	over := make(chan struct{})
	go func() {
		defer close(over)
		attack(t, addresses[0], addresses[1], halfOpen, peers, datagrams)
	}()
	samples, slowest := 0, time.Duration(0)
	for running := true; running; samples++ {
		select {
		case <-over:
			running = false // and once more
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		began := time.Now()
		c, err := Dial(ctx, addresses[:1], DialConfig{Key: owner, Pin: identity.TrustAsFound, Paths: []Path{PathTCP}, WarmConns: -1})
		if err != nil {
			cancel()
			t.Errorf("sample %d: the owner is locked out: %v", samples, err)
			continue
		}
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://ignored/", nil)
		if response, err := c.RoundTrip(r); err != nil {
			t.Errorf("sample %d: %v", samples, err)
		} else {
			_ = response.Body.Close()
		}
		c.Close()
		cancel()
		slowest = max(slowest, time.Since(began))
	}
	peak := statusKiB(t, cmd.Process.Pid, "VmHWM")
	t.Logf("%d half-open, %d hostile peers, %d datagrams: resident %d KiB before, %d at most; the owner got in %d times, at the slowest in %v",
		halfOpen, peers, datagrams, before, peak, samples, slowest)
	if peak<<10 > maxHostileRSS && raceless {
		t.Errorf("%d KiB resident, at most %d are allowed", peak, maxHostileRSS>>10)
	}
}

func runAttackedDevice(owner string) {
	key, _ := identity.Generate()
	s := NewServer(Config{Key: key, Handler: http.HandlerFunc(testHandler), Known: func(f identity.Fingerprint) bool { return f.String() == owner }})
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	udp, _ := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	var served sync.WaitGroup
	served.Go(func() { _ = s.ServeTCP(l) })
	served.Go(func() { _ = s.ServeQUIC(udp) })
	fmt.Println(l.Addr(), udp.LocalAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = s.Close()
	served.Wait()
	os.Exit(0)
}

func statusKiB(t *testing.T, pid int, field string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

func dialFrom(source, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 10 * time.Second}
	return d.Dial("tcp", to)
}

// attack returns when all have had their turn.
func attack(t *testing.T, tcp, quic string, halfOpen, peers, datagrams int) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { // one source that opens and says nothing
		open := make([]net.Conn, 256)
		for i := range halfOpen {
			c, err := dialFrom("127.0.0.2", tcp)
			if err != nil {
				continue
			}
			if old := open[i%len(open)]; old != nil {
				_ = old.Close()
			}
			open[i%len(open)] = c
		}
		for _, c := range open {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	flight := initials(t)
	all.Go(func() {
		for range datagrams {
			raw, err := net.Dial("udp", quic)
			if err != nil {
				continue
			}
			for _, p := range flight {
				_, _ = raw.Write(p)
			}
			_ = raw.Close()
		}
	})
	keys := make([]*identity.Key, 8)
	for i := range keys {
		keys[i] = newKey(t)
	}
	var next atomic.Int32
	for range 48 {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= peers {
					return
				}
				kind := i % len(hostilePeers)
				raw, err := dialFrom("127.0.0."+strconv.Itoa(3+kind), tcp)
				if err != nil {
					continue
				}
				_ = raw.SetDeadline(time.Now().Add(4 * time.Second))
				hostilePeers[kind](raw, keys[i%len(keys)])
				_ = raw.Close()
			}
		})
	}
}

// hostilePeers each have one connection, and four seconds.
var hostilePeers = []func(net.Conn, *identity.Key){
	func(raw net.Conn, _ *identity.Key) { // garbage
		_, _ = raw.Write(make([]byte, 70_000))
		_, _ = io.Copy(io.Discard, raw)
	},
	func(raw net.Conn, _ *identity.Key) { // a large record, byte by byte
		_, _ = raw.Write([]byte{22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb})
		for {
			time.Sleep(20 * time.Millisecond) // the attacker's slowness
			if _, err := raw.Write([]byte{0}); err != nil {
				return
			}
		}
	},
	func(raw net.Conn, k *identity.Key) { // a handshake, then nothing
		if c := hostileTLS(raw, k, "h2"); c != nil {
			_, _ = io.Copy(io.Discard, c)
		}
	},
	flood(func(int) []byte { return frame(4, 0, 0, []byte{0, 4, 0, 1, 0, 0}) }), // SETTINGS
	flood(func(int) []byte { return frame(6, 0, 0, make([]byte, 8)) }),          // PING
	flood(func(i int) []byte { // rapid reset
		id := uint32(2*i + 1)
		return append(frame(1, 5, id, hpackGet), frame(3, 0, id, []byte{0, 0, 0, 8})...)
	}),
	flood(func(i int) []byte { // headers without end
		if i == 0 {
			return frame(1, 0, 1, hpackGet)
		}
		return frame(9, 0, 1, bomb)
	}),
	flood(func(i int) []byte { return frame(1, 5, uint32(2*i+1), append(append([]byte{}, hpackGet...), bomb...)) }), // large headers
	func(raw net.Conn, k *identity.Key) { // a long HTTP/1.1 header, line by line
		if c := hostileTLS(raw, k, "http/1.1"); c != nil {
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
			for ; err == nil; _, err = io.WriteString(c, "X-Long: "+strings.Repeat("x", 1000)+"\r\n") {
			}
		}
	},
	func(raw net.Conn, k *identity.Key) { // asks for much and reads nothing
		if c := hostileTLS(raw, k, "http/1.1"); c != nil {
			_, err := io.WriteString(c, "CONNECT zeros HTTP/1.1\r\nHost: zeros\r\n\r\n")
			if err == nil {
				var gone [1]byte
				time.Sleep(3 * time.Second) // how long it does not read
				_, _ = raw.Read(gone[:])
			}
		}
	},
}

func hostileTLS(raw net.Conn, k *identity.Key, protocol string) *tls.Conn {
	c := tls.Client(raw, identity.ClientTLS(k, identity.TrustAsFound, protocol))
	if c.Handshake() != nil {
		return nil
	}
	return c
}

// flood sends frames, some of them at a time, and reads nothing.
func flood(next func(i int) []byte) func(net.Conn, *identity.Key) {
	return func(raw net.Conn, k *identity.Key) {
		c := hostileTLS(raw, k, "h2")
		if c == nil {
			return
		}
		out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
		for i := range 20_000 {
			if out = append(out, next(i)...); len(out) > 16<<10 {
				if _, err := c.Write(out); err != nil {
					return
				}
				out = out[:0]
			}
		}
		_, _ = io.Copy(io.Discard, raw) // until the device or the time ends it
	}
}

// hpackGet is ":method GET, :scheme https, :path /, :authority x" (RFC 7541).
var hpackGet = []byte{0x82, 0x87, 0x84, 0x41, 1, 'x'}

// bomb is header fields of 12 KiB, all the same.
var bomb = func() (b []byte) {
	for range 12 {
		b = append(b, 0, 1, 'a', 0x7f, 0x81, 7) // a value of 127+1+7*128 = 1024 bytes
		b = append(b, make([]byte, 1024)...)
	}
	return b
}()

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
	return append(b, payload...)
}
