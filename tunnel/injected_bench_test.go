//go:build unix

package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/tunnel/inject"
)

const injectedBlock = 8 << 20 // of one bulk answer

// benchService wants Digest with nonces that last for ever and answers each
// request with size bytes: a body in HTTP, frames after the answer in RTSP.
func benchService(b *testing.B, protocol string, size int) (address string) {
	var block []byte
	for len(block)+1404 <= size {
		block = append(append(block, '$', 0, 1400>>8, 1400&0xff), make([]byte, 1400)...)
	}
	block = append(block, make([]byte, size-len(block))...)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: bench\r\nContent-Length: %d\r\n\r\n", size)
	if protocol == "rtsp" {
		whole := size / 1404 * 1404
		head, block = "RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n", append(block[:whole], fmt.Sprintf("RTSP/1.0 200 OK\r\nCSeq: 8\r\nContent-Length: %d\r\n\r\n%s", size-whole, block[whole:])...)
	}
	answer := append([]byte(head), block...)
	refusal := "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n"
	if protocol == "rtsp" {
		refusal = "RTSP/1.0 401 Unauthorized\r\nCSeq: 7\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n"
	}
	return serve(b, "tcp4", "127.0.0.1:0", func(c Conn) {
		in := bufio.NewReader(c)
		for {
			signed := false
			for {
				line, err := in.ReadSlice('\n')
				if err != nil {
					return
				}
				if signed = signed || bytes.HasPrefix(line, []byte("Authorization: Digest")); len(line) == 2 {
					break
				}
			}
			if !signed {
				io.WriteString(c, refusal)
			} else if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
}

// asking makes a tunnel over TLS and returns a function that makes one request
// and reads its answer of n bytes.
func asking(b *testing.B, s Service, request string, n int) func() {
	ctx, cut := context.WithCancel(context.Background())
	bridge := NewBridge(Config{})
	client, stream := tlsEnds(b)
	t, err := bridge.Open(ctx, Meta{}, s)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); t.Run(ctx, stream) }()
	b.Cleanup(func() { cut(); client.Close(); <-done })
	sink := make([]byte, 256<<10)
	ask := []byte(request)
	return func() {
		if _, err := client.Write(ask); err != nil {
			b.Fatal(err)
		}
		for left := n; left > 0; {
			m, err := client.Read(sink)
			if err != nil {
				b.Fatal(err)
			}
			left -= m
		}
	}
}

// A tunnel to a service that the device signs in to against one whose client
// does it itself. Both take turns, so that what else the machine does hits both
// alike; x is the median of the ratios of each turn, the rate of the former over that
// of the latter.
func BenchmarkInjected(b *testing.B) {
	const digest = `Authorization: Digest username="operator", realm="r", nonce="n", uri="/", response="0123456789abcdef0123456789abcdef", qop=auth, nc=00000001, cnonce="0123456789abcdef"` + "\r\n"
	for _, c := range []struct {
		name, typ string
		request   string
		size      int
	}{
		{"bulk/http", "http", "GET / HTTP/1.1\r\nHost: cam\r\nUser-Agent: bench\r\nAccept: */*\r\n", injectedBlock},
		{"bulk/rtsp", "rtsp", "GET_PARAMETER rtsp://cam/ RTSP/1.0\r\nCSeq: 7\r\nSession: 1\r\n", injectedBlock},
		{"small/http", "http", "GET / HTTP/1.1\r\nHost: cam\r\nUser-Agent: bench\r\nAccept: */*\r\n", 500},
	} {
		b.Run(c.name, func(b *testing.B) {
			plain := mustService(b, "cam", c.typ, benchService(b, c.typ, c.size))
			signed, err := plain.WithCredentials(inject.Credentials{User: theUser, Password: inject.NewSecret(thePassword)}, nil)
			if err != nil {
				b.Fatal(err)
			}
			n := c.size + len("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: bench\r\nContent-Length: \r\n\r\n") + len(fmt.Sprint(c.size))
			if c.typ == "rtsp" {
				rest := c.size % 1404
				n = c.size + 2*len("RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n") + len("Content-Length: \r\n") + len(fmt.Sprint(rest))
			}
			with, without := asking(b, signed, c.request+"\r\n", n), asking(b, plain, c.request+digest+"\r\n", n)
			for range 3 {
				with()
				without()
			}
			var took [2]time.Duration
			var allocated [2]uint64
			turn := func(i int, ask func()) float64 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := time.Now()
				for range turnOf(c.size) {
					ask()
				}
				one := time.Since(began)
				took[i] += one
				runtime.ReadMemStats(&after)
				allocated[i] += after.Mallocs - before.Mallocs
				return one.Seconds()
			}
			var ratios []float64
			b.ResetTimer()
			for i := range b.N {
				// Who goes first changes.
				if i%2 == 0 {
					x := turn(0, with)
					ratios = append(ratios, turn(1, without)/x)
				} else {
					y := turn(1, without)
					ratios = append(ratios, y/turn(0, with))
				}
			}
			slices.Sort(ratios)
			asks := float64(b.N * turnOf(c.size))
			b.ReportMetric(ratios[len(ratios)/2], "x")
			b.ReportMetric(asks*float64(c.size)/took[0].Seconds()/1e6, "MB/s")
			b.ReportMetric(asks/took[0].Seconds(), "requests/s")
			b.ReportMetric(float64(allocated[0])/asks, "allocs/request")
			b.ReportMetric(float64(allocated[1])/asks, "allocs/request-without")
		})
	}
}

// turnOf is how many requests one turn has.
func turnOf(size int) int {
	if size > 1<<20 {
		return 2
	}
	return 200
}

// The figures of the benchmark, without judging speed: a bulk answer goes through
// in the buffers that it came in.
func TestInjectedBulkAllocatesNothing(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
	asked := make(chan struct{})
	var service Conn
	address := serve(t, "tcp4", "127.0.0.1:0", func(c Conn) {
		in := bufio.NewReader(c)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		io.WriteString(c, answer)
		service = c
		close(asked)
		io.Copy(io.Discard, in)
	})
	s := signIn(t, "http", address, theUser, thePassword)
	s.wire = nil // it would grow
	b := NewBridge(Config{})
	defer b.Close()
	tun, err := b.Open(t.Context(), Meta{}, s.service)
	if err != nil {
		t.Fatal(err)
	}
	client, stream := ends(t, "tcp4")
	done := make(chan struct{})
	go func() { defer close(done); tun.Run(context.Background(), stream) }()
	defer func() { client.Close(); <-done }()
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
	expect(t, client, answer)
	<-asked
	block, back := []byte(strings.Repeat("x", 1<<20)), make([]byte, 1<<20)
	move := func() {
		go service.Write(block)
		if _, err := io.ReadFull(client, back); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		move()
	}
	if got := testing.AllocsPerRun(100, move); got > 4 {
		t.Errorf("%v allocations for a megabyte, want those of the test alone", got)
	}
}
