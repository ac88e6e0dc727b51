package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// connect opens a tunnel or ends the test.
func (p *peer) connect(service string) session.Stream {
	p.t.Helper()
	s, err := p.Connect(context.Background(), service, false)
	if err != nil {
		p.t.Fatalf("CONNECT %s: %v", service, err)
	}
	p.t.Cleanup(func() { _ = s.Close() })
	return s
}

// refused returns the problem that a CONNECT was answered with.
func (p *peer) refused(service string) error {
	p.t.Helper()
	s, err := p.Connect(context.Background(), service, false)
	if err == nil {
		_ = s.Close()
		return nil
	}
	var no *session.ConnectError
	if !errors.As(err, &no) {
		p.t.Fatalf("CONNECT %s: %v", service, err)
	}
	return api.ReadProblem(no.Status, no.ContentType, bytes.NewReader(no.Body))
}

// The camera's own page and its RTSP through both paths, and what a viewer may
// not reach.
func TestCameraThroughTheTunnel(t *testing.T) {
	camera, err := testcam.Start(testcam.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer camera.Close()
	shell := echo(t)
	d := startDevice(t, serviceTOML("web", "http", camera.HTTPAddr().String())+serviceTOML("cam", "rtsp", camera.RTSPAddr().String())+
		serviceTOML("shell", "ssh", shell.address)+serviceTOML("raw", "tcp", shell.address)+serviceTOML("down", "http", closedPort(t)))
	owner := d.owner(t)
	viewer := d.enter(t, "Vera", acl.RoleViewer)
	for _, path := range bothPaths {
		p := d.dial(t, viewer, path)
		wantPicture(t, p.connect("web"), camera.Name())
		wantRTSP(t, p.connect("cam:554"))
		wantCode(t, "a viewer and ssh", p.refused("shell"), api.CodeForbidden)
		wantCode(t, "a viewer and tcp", p.refused("raw"), api.CodeForbidden)
		wantCode(t, "no such service", p.refused("none"), api.CodeNotFound)
		wantCode(t, "nobody listens", p.refused("down"), api.CodeServiceDown)
		var list api.Services
		p.call("GET", "/v1/services", nil, &list)
		allowed := ""
		for _, s := range list.Services {
			if s.Allowed {
				allowed += s.Name + " "
			}
		}
		if allowed != "web cam down " || len(list.Services) != 5 {
			t.Errorf("a viewer may use %q of %d", allowed, len(list.Services))
		}
	}
	raw := owner.connect("raw")
	if _, err := io.WriteString(raw, "hello"); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, raw, "hello")
	testnet.Eventually(t, "the tunnel and its bytes, which are counted when they have gone", func() error {
		var live api.Sessions
		owner.call("GET", "/v1/sessions", nil, &live)
		if len(live.Tunnels) == 0 || live.Tunnels[len(live.Tunnels)-1].Service != "raw" || live.Tunnels[len(live.Tunnels)-1].Up != 5 {
			return fmt.Errorf("tunnels: %+v", live.Tunnels)
		}
		return nil
	})
	if len(shell.conns) != 1 {
		t.Errorf("the shell saw %d connections, want the owner's", len(shell.conns))
	}
}

func wantBytes(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
}

// wantPicture finds a whole picture of this very camera in its MJPEG stream.
func wantPicture(t *testing.T, s session.Stream, name testcam.Name) {
	t.Helper()
	defer s.Close()
	if _, err := io.WriteString(s, "GET /stream HTTP/1.0\r\nHost: camera\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(s)
	var got []byte
	buf := make([]byte, 16<<10)
	for range 200 {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("the camera ended: %v after %d bytes: %.200q", err, len(got), got)
		}
		got = append(got, buf[:n]...)
		if start := bytes.Index(got, []byte("\xff\xd8")); start >= 0 && bytes.Contains(got[start:], []byte("\xff\xd9")) {
			img, err := jpeg.Decode(bytes.NewReader(got[start:]))
			if err != nil {
				t.Fatal(err)
			}
			if mark, err := testcam.ReadMark(img); err != nil || mark.Name != name {
				t.Errorf("the picture is %v (%v), want one of %v", mark.Name, err, name)
			}
			return
		}
	}
	t.Fatalf("no picture in %d bytes: %.300q", len(got), got)
}

func wantRTSP(t *testing.T, s session.Stream) {
	t.Helper()
	defer s.Close()
	if _, err := io.WriteString(s, "OPTIONS rtsp://camera/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(s).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "RTSP/1.0 200") {
		t.Errorf("RTSP says %q, %v", line, err)
	}
}

func closedPort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// overTunnels is an HTTP client whose every connection is a tunnel.
func overTunnels(p *peer, service string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.Connect(ctx, service, true)
	}}}
}

// Real web servers, over TCP and a Unix socket.
func TestWebServersThroughTheTunnel(t *testing.T) {
	body := strings.Repeat("keyhole", 200_000)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	defer web.Close()
	more := serviceTOML("web", "http", web.Listener.Addr().String())
	services := []string{"web"}
	dir := shortDir(t)
	if address := startNginx(t, dir, body); address != "" {
		more += serviceTOML("nginx", "http", address)
		services = append(services, "nginx")
	}
	d := startDevice(t, more)
	owner := d.owner(t)
	bulk, err := d.tryDial(t, owner.key, session.PathTCP, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*peer{owner, bulk, d.dial(t, owner.key, session.PathQUIC)} {
		for _, service := range services {
			r, err := overTunnels(p, service).Get("http://" + service + "/page")
			if err != nil {
				t.Fatalf("%s over %s: %v", service, p.Path(), err)
			}
			got, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || string(got) != body {
				t.Errorf("%s over %s: %d bytes, %v, want %d", service, p.Path(), len(got), err, len(body))
			}
		}
	}
}

// startNginx serves body at /page on a Unix socket; "" where there is no nginx.
func startNginx(t *testing.T, dir, body string) (address string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Log("no nginx here: only net/http is tried")
		return ""
	}
	socket := filepath.Join(dir, "nginx.sock")
	conf := fmt.Sprintf("daemon off; master_process off; pid %s/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;\nserver { listen unix:%s; root %[1]s; } }\n", dir, socket)
	file := filepath.Join(dir, "nginx.conf")
	for name, data := range map[string]string{file: conf, filepath.Join(dir, "page"): body} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-c", file, "-p", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testnet.Eventually(t, "nginx listens", func() error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return "unix:" + socket
}

// The log line and the audit log say who did what for how long and why it ended.
func TestTunnelLeavesALine(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	s := owner.connect("echo")
	if _, err := io.WriteString(s, "12345678"); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, "12345678")
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	testnet.Eventually(t, "the line", func() error {
		entries, err := d.store.Audit(0, 0)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.What == acl.WhatTunnelEnded && e.User == "Alice" && e.Service == "echo" && e.Path == "tcp" && e.Up == 8 && e.Down == 8 && e.Why != "" && e.Source != "" {
				return nil
			}
		}
		return errors.New("not there")
	})
	d.wantWholeLog(t)
}

// A client that stops reading holds the service back; nothing piles up here.
func TestUnreadTunnelIsBounded(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address))
	owner := d.owner(t)
	const tunnels = 8
	for _, path := range bothPaths {
		p := d.dial(t, owner.key, path)
		for range tunnels {
			p.connect("pour")
		}
	}
	// Each takes what fits in buffers and windows, and then stands still.
	var before int64 = -1
	testnet.Eventually(t, "standstill", func() error {
		var sum int64
		for _, live := range d.bridge.List() {
			sum += live.Down
		}
		defer func() { before = sum }()
		if sum != before || sum == 0 {
			return fmt.Errorf("%d bytes, %d before", sum, before)
		}
		return nil
	})
	for _, live := range d.bridge.List() {
		const most = 16 << 20 // socket buffers of the kernel on both sides, windows, one buffer of ours
		if live.Down > most {
			t.Errorf("a tunnel over %s swallowed %d bytes that nobody reads", live.Meta.Path, live.Down)
		}
	}
	start := time.Now()
	owner.call("GET", "/v1/device", nil, nil) // and others are served
	t.Logf("answered in %v", time.Since(start))
}

func TestTunnelLimits(t *testing.T) {
	e := echo(t)
	d := startDevice(t, "[limits]\ntunnels = 5\ntunnels_per_peer = 3\n"+serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	other := d.member(t, "Adam", acl.RoleAdmin, session.PathQUIC)
	var open []session.Stream
	for range 3 {
		open = append(open, owner.connect("echo"))
	}
	wantCode(t, "a fourth of one peer", owner.refused("echo"), api.CodeLimit)
	other.connect("echo")
	other.connect("echo")
	wantCode(t, "a sixth in all", other.refused("echo"), api.CodeLimit)
	_ = open[0].Close()
	testnet.Eventually(t, "a free place", func() error {
		s, err := other.Connect(context.Background(), "echo", false)
		if err != nil {
			return err
		}
		return s.Close()
	})
}
