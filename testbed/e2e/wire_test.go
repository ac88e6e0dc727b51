//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/internal/testnet"
)

// words are what must not be readable on the wire: the camera's protocols and
// pictures, what people are called, the API.
var words = []string{"RTSP/1.0", "DESCRIBE", "HTTP/1.", "GET /", "JFIF", "frame.jpg", "Alice", "laptop", "/v1/", "commitment", "application/sdp"}

// record captures a device's traffic until stop is called, which returns it.
func record(t *testing.T, at *testnet.Namespace, device string) (stop func() []packet) {
	t.Helper()
	file := filepath.Join(t.TempDir(), device+".pcap")
	p := start(t, at.Command("tcpdump", "-i", device, "-U", "-n", "-Z", "root", "-s", "0", "-B", "65536", "-w", file))
	testnet.Eventually(t, "tcpdump listens", func() error {
		if !strings.Contains(p.err.String(), "listening on") {
			return errors.New(p.err.String())
		}
		return nil
	})
	return func() []packet {
		t.Helper()
		_ = p.Process.Signal(syscall.SIGINT)
		p.wait(t)
		contains(t, "tcpdump", p.err.String(), "\n0 packets dropped by kernel")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		packets, err := parseCapture(data)
		if err != nil {
			t.Fatal(err)
		}
		return packets
	}
}

// Pairing and a tunnel as somebody sees them who listens on the LAN: TLS 1.3 and
// nothing else on the device's port. What the tunnel carried is readable behind it,
// on the board's loopback, which shows that the search can find it.
//
//	         tcpdump                                tcpdump
//	laptop ── switch ── eth0 board: keyholed ── lo ── camera
func TestWire(t *testing.T) {
	t.Parallel() // it mostly waits
	lan := newLAN(t)
	b := newBoard(t, lan.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, lan.join(t, "laptop", "10.77.0.2/24"), "Alice")
	outside, inside := record(t, lan.sw, "board"), record(t, b.Namespace, "lo")

	alice.pair(t, b) // found by mDNS
	bridge := alice.connect(t, "Front door", "web", "rtsp")
	file := filepath.Join(t.TempDir(), "frame.jpg")
	must(t, alice.Command("curl", "-sSf", "-o", file, "http://"+bridge.address["web"]+"/frame.jpg"))
	checkPicture(t, b.camera, file)
	picture, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tables := string(picture[:200]) // alike in every picture
	must(t, alice.Command("ffmpeg", "-v", "error", "-i", "rtsp://"+bridge.address["rtsp"]+testcam.Path, "-frames:v", "5", "-f", "null", "-"))
	bridge.kill()
	must(t, alice.Command(program("keyhole"), "--home", alice.home, "call", "Front door", "GET", "/v1/me"))

	wire, behind := streams(outside()), streams(inside())
	seen := 0
	for _, s := range wire {
		seen += len(s.data)
		for _, w := range append(words, tables) {
			if bytes.Contains(s.data, []byte(w)) {
				t.Errorf("%q is readable in %s", w, s)
			}
		}
		if s.tcp && (s.to.Port() == 7443 || s.from.Port() == 7443) {
			if err := onlyTLS13(s.data, s.from.Port() == 7443); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	}
	if seen < 100_000 {
		t.Errorf("only %d bytes were seen on the LAN: the test listens in the wrong place", seen)
	}
	var all []byte
	for _, s := range behind {
		all = append(all, s.data...)
	}
	for _, w := range []string{"RTSP/1.0", "DESCRIBE", "HTTP/1.", "GET /", "frame.jpg", "application/sdp", tables} {
		if !bytes.Contains(all, []byte(w)) {
			t.Errorf("%q is not found on the board's loopback either: the test cannot find anything", w)
		}
	}
}
