package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain lets the test program play the roles, as the bench itself does.
func TestMain(m *testing.M) {
	if role := os.Getenv("BENCH_ROLE"); role != "" {
		if err := play(role, os.Getenv("BENCH_TARGET"), os.Getenv("BENCH_EXTRA")); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func startTestRole(t *testing.T, role, target, extra string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "BENCH_ROLE="+role, "BENCH_TARGET="+target, "BENCH_EXTRA="+extra)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("role %s: %v", role, err)
	}
	return strings.Fields(line)
}

// Every contender of ours carries an echo and a few megabytes on several
// tunnels at once, some of which nobody reads.
func TestRolesCarry(t *testing.T) {
	service := startTestRole(t, "service", "", "")[0]
	for _, c := range []struct{ name, device, client, extra string }{
		{"plain", "plain", "plain", ""},
		{"tls", "tls-device", "tls-client", "tcp "},
		{"quic", "quic-device", "quic-client", ""},
		{"keyhole/tcp", "keyhole-device", "keyhole-client", "tcp "},
		{"keyhole/quic", "keyhole-device", "keyhole-client", "quic "},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := startTestRole(t, c.device, service, "")
			carries(t, startTestRole(t, c.client, said[0], c.extra+strings.Join(said[1:], " "))[0])
		})
	}
	for _, kind := range []string{"tls", "keyhole"} {
		t.Run(kind+"/relay", func(t *testing.T) {
			at := strings.Join(startTestRole(t, "relay", "", ""), " ")
			said := startTestRole(t, kind+"-device", service, at)
			carries(t, startTestRole(t, kind+"-client", at, "relay "+said[1])[0])
		})
	}
}

func carries(t *testing.T, local string) {
	t.Helper()
	echo, err := (&contender{local: local}).dial()
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	for range 8 {
		conn, err := net.Dial("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte{'b'})
		if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v): got %v, want %v", c.in, got, c.want)
		}
	}
}
