//go:build linux

package e2e

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/congestion"
	"github.com/keyholed/keyhole/internal/testnet"
)

// relayGoal is bytes a second that a relayed tunnel has to deliver over a line of
// 50 ms round trip that loses one packet in a hundred.
const relayGoal = 10e6

// A relayed tunnel over a long and lossy line, at the side of the laptop, and at
// that of the board.
func TestRemoteRelayOnALossyLine(t *testing.T) {
	if os.Getenv("KEYHOLE_FULL") == "" {
		t.Log("a figure that wants a quiet machine: see make test-remote")
		return
	}
	line := testnet.Line{Delay: 25 * time.Millisecond, Loss: 0.01, Rate: 200e6}
	for _, c := range []struct{ name, there, here string }{{"laptop's", "", "slow"}, {"board's", "slow", ""}} {
		t.Run("the "+c.name+" line", func(t *testing.T) {
			p := newPair(t, testnet.Symmetric, testnet.Symmetric) // nothing but the relay leads
			far := p.laptop.host
			if c.there != "" {
				p.internet.Line(t, p.there.Home, line)
				far = p.there.board.host
			} else {
				p.internet.Line(t, p.here, line)
			}
			p.station.serve(t, ":9000", func(conn *net.TCPConn) {
				congestion.PreferBBR(conn)
				_, _ = io.CopyN(conn, endless{}, lineSize)
			})
			plain := download(t, far, testnet.BaseAddress+":9000")
			p.there.board.serve(t, bulk, func(conn *net.TCPConn) {
				_, _ = io.CopyN(conn, endless{}, lineSize)
			})
			// With its cable the board's router lost its flows, which the board would
			// find out with its next keep-alive.
			p.there.board.daemon.kill()
			p.there.board.run(t)
			p.there.board.attached(t)
			bridge := p.laptop.connect(t, boardKey, "bulk")
			rate := download(t, p.laptop.host, bridge.address["bulk"])
			t.Logf("%.1f MB/s through the relay, over 50 ms and 1 %% loss (goal: %.0f; plain TCP with BBR to the basestation: %.1f)",
				rate/1e6, relayGoal/1e6, plain/1e6)
			if rate < relayGoal {
				t.Errorf("%.1f MB/s, want %.0f", rate/1e6, relayGoal/1e6)
			}
		})
	}
}

const lineSize = 96 << 20

// download returns bytes a second.
func download(t *testing.T, h host, address string) float64 {
	t.Helper()
	conn, err := h.dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	n, err := io.Copy(io.Discard, conn)
	if n != lineSize {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return float64(n) / time.Since(began).Seconds()
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
