package daemon

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
)

// A service is signed in to with the password of the file; a wrong one is said
// to the client, in the audit log and to who listens, and a reload takes over the
// right one at once.
func TestDeviceSignsIn(t *testing.T) {
	camera := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "correct-horse" {
			w.Header().Set("WWW-Authenticate", `Basic realm="cam"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "a picture")
	}))
	defer camera.Close()
	file := filepath.Join(t.TempDir(), "camera")
	keep := func(line string) {
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep("operator:mistaken\n")
	services := serviceTOML("cam", "http", camera.Listener.Addr().String()) + "credentials = \"" + file + "\"\n"
	d := startDevice(t, services)
	owner := d.owner(t)
	ask := func() (int, string) {
		t.Helper()
		s := owner.connect("cam")
		defer s.Close()
		io.WriteString(s, "GET / HTTP/1.1\r\nHost: cam\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3M=\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.Header.Get("WWW-Authenticate") != "" {
			t.Fatal(err, response.Header)
		}
		return response.StatusCode, string(body)
	}
	for range 3 {
		if status, body := ask(); status != 502 || !strings.Contains(body, "refuses the user name and password that the device keeps") {
			t.Errorf("with a wrong password: %d %s", status, body)
		}
	}
	testnet.Eventually(t, "the line of the audit log", func() error {
		entries, err := d.store.Audit(0, 0)
		if err != nil {
			return err
		}
		n := 0
		for _, e := range entries {
			if e.What == acl.WhatPassword && e.Service == "cam" {
				n++
			}
		}
		if n != 1 {
			return errors.New("not there once")
		}
		return nil
	})
	keep("operator:correct-horse\n")
	if err := d.Reload(parse(t, d.dir, text(d.dir, services))); err != nil {
		t.Fatal(err)
	}
	if status, body := ask(); status != 200 || body != "a picture" {
		t.Errorf("after the reload: %d %s", status, body)
	}
	keep("correct-horse\n")
	if err := d.Reload(parse(t, d.dir, text(d.dir, services))); err == nil || strings.Contains(err.Error(), "correct-horse") {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if status, _ := ask(); status != 200 {
		t.Errorf("after a reload that failed: %d", status)
	}
}

// Mistakes name the line.
func TestBadCredentialsAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "operator:correct-horse", 0o600)
	for _, c := range []struct{ kind, more, want string }{
		{"ssh", "credentials = \"" + good + "\"", "of type ssh cannot be signed in to"},
		{"tcp", "credentials = \"" + good + "\"", "of type tcp cannot be signed in to"},
		{"http", "access = \"application\"\ncredentials = \"" + good + "\"", "want access = \"role\""},
		{"http", "credentials = \"" + file("open", "a:b", 0o644) + "\"", "may be read by others (mode 0644)"},
		{"rtsp", "credentials = \"missing\"", "no such file"},
		{"rtsp", "credentials = \"" + dir + "\"", "not a regular file"},
		{"rtsp", "credentials = \"" + file("odd", "correct-horse", 0o600) + "\"", "line 1: want user:password"},
		{"rtsp", "credentials = \"" + file("long", strings.Repeat("x", 5000), 0o600) + "\"", "larger than 4096 bytes"},
	} {
		toml := text(dir, serviceTOML("cam", c.kind, "127.0.0.1:80")+c.more+"\n")
		err := Check(parse(t, dir, toml))
		line := "keyholed.toml:" // the last line
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), line) || !strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "correct-horse") {
			t.Errorf("%s, %s: %v, want %q", c.kind, c.more, err, c.want)
		}
	}
	if err := Check(parse(t, dir, text(dir, serviceTOML("cam", "http", "127.0.0.1:80")+"credentials = \"good\"\n"))); err != nil {
		t.Errorf("a good file, named from the configuration's directory: %v", err)
	}
}
