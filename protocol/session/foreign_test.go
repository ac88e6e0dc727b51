package session

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Bytes sent together with the CONNECT belong to the stream.
func TestEarlyBytesComeFirst(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	conn, err := tls.Dial("tcp", d.tcp, identity.ClientTLS(newKey(t), identity.TrustAsFound, "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "CONNECT echo HTTP/1.1\r\nHost: echo\r\n\r\nearly "); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	if _, err := io.WriteString(conn, "and late"); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	if got, err := io.ReadAll(reader); string(got) != "early and late" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A CONNECT with a length of its own would leave open where the stream begins.
func TestConnectWithBodyIsRefused(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	conn, err := tls.Dial("tcp", d.tcp, identity.ClientTLS(newKey(t), identity.TrustAsFound, "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT echo HTTP/1.1\r\nHost: echo\r\nContent-Length: 3\r\n\r\nabc")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("got %v, %v; want 400", response, err)
	}
}

// An HTTP/2 client that knows nothing of chunks sees the bytes and the end.
func TestPlainHTTP2Tunnel(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	config := identity.ClientTLS(newKey(t), identity.TrustAsFound)
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	up, w := io.Pipe()
	r, _ := http.NewRequest(http.MethodConnect, "https://"+d.tcp, up)
	r.Host = "first"
	r.Header.Set("Te", "trailers")
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); string(got) != "all there is" || err != nil || response.ProtoMajor != 2 {
		t.Errorf("got %q, %v over %s", got, err, response.Proto)
	}
	_ = w.Close()
	<-firstGot
}

func TestCurlIsAClient(t *testing.T) {
	curl := testnet.Program(t, "curl")
	d := startDevice(t, Limits{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect && strings.HasPrefix(r.Host, "web:") {
			serveOnce(w, r)
			return
		}
		testHandler(w, r)
	}))
	dir := t.TempDir()
	file := filepath.Join(dir, "identity.pem")
	k, err := identity.LoadOrCreate(file)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "device.pem")
	if err := os.WriteFile(ca, d.key.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	name := string(d.key.ID()) + ".local"
	_, port, _ := net.SplitHostPort(d.tcp)
	for _, version := range []string{"--http1.1", "--http2"} {
		// The device's own name and certificate satisfy curl's checks.
		out, err := exec.Command(curl, "-sS", version, "--cert", file, "--cacert", ca,
			"--resolve", name+":"+port+":127.0.0.1", "https://"+name+":"+port+"/").CombinedOutput()
		if err != nil || string(out) != k.Fingerprint().String() {
			t.Errorf("%s: %s, %v", version, out, err)
		}
	}
	for _, proxy := range [][]string{nil, {"--proxy-http2"}} {
		args := append([]string{"-sS", "--proxy", "https://" + d.tcp, "--proxy-insecure", "--proxy-cert", file}, proxy...)
		out, err := exec.Command(curl, append(args, "--proxytunnel", "http://web:80/")...).CombinedOutput()
		if proxy != nil && err != nil && (strings.Contains(string(out), "support") || strings.Contains(string(out), "unknown")) {
			t.Logf("this curl has no HTTP/2 to proxies: %s", out)
			continue
		}
		if err != nil || string(out) != "through the tunnel" {
			t.Errorf("through the proxy %v: %q, %v", proxy, out, err)
		}
	}
}

// serveOnce answers one HTTP/1.1 request inside a tunnel and closes.
func serveOnce(w http.ResponseWriter, r *http.Request) {
	s, err := Accept(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer s.Close()
	if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil {
		return
	}
	_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\nthrough the tunnel")
}
