//go:build linux

package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// Real servers behind the bridge and real clients in front of it.

// debian is a program of Debian's own, not one that stands before it in PATH:
// its modules are Debian's as well.
func debian(t testing.TB, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		testnet.Lacking(t, path+" is not installed: run testbed/prepare")
	}
	return path
}

// background runs a program until the test ends.
func background(t testing.TB, cmd *exec.Cmd) *tape {
	t.Helper()
	out := new(tape)
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() }).Stop()
		cmd.Process.Signal(syscall.SIGTERM) // a server takes its workers along
		cmd.Wait()
	})
	return out
}

// freePort is one that nobody listens on now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func listening(t testing.TB, address string, out *tape) {
	t.Helper()
	testnet.Eventually(t, "a server at "+address, func() error {
		c, err := net.Dial("tcp4", address)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return c.Close()
	})
}

// script starts a server of testdata and returns its address.
func script(t testing.TB, args ...string) (address string) {
	t.Helper()
	cmd := exec.Command(debian(t, "/usr/bin/python3"), args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	out := background(t, cmd)
	w.Close()
	port, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err, out)
	}
	return "127.0.0.1:" + strings.TrimSpace(port)
}

// rtspServer starts GStreamer's.
func rtspServer(t testing.TB, method, password string) (address string) {
	t.Helper()
	return script(t, "testdata/rtspd.py", method, theUser, password)
}

// A WebSocket opens, and carries what it likes.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := signIn(t, "http", script(t, "testdata/wsd.py", "serve", theUser, thePassword), theUser, thePassword)
	out, err := exec.Command("/usr/bin/python3", "testdata/wsd.py", "talk", "ws://"+s.address+"/").CombinedOutput()
	if err != nil || string(out) != "echoed\n" {
		t.Errorf("%v\n%s\n%s", err, tail(out), s.wire)
	}
	s.silent(t, "realm=")
}

// Players without a password play a camera that wants one.
func TestPlayersAreSignedIn(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"basic", "digest"} {
		t.Run(method, func(t *testing.T) {
			s := signIn(t, "rtsp", rtspServer(t, method, thePassword), theUser, thePassword)
			url := "rtsp://" + s.address + "/live"
			for _, player := range []struct {
				name string
				args []string
				want string
			}{
				{"ffprobe", []string{"-v", "error", "-analyzeduration", "500000", "-show_entries", "stream=codec_name,width,height", "-of", "csv", url}, "mjpeg,160,120"},
				{"ffmpeg", []string{"-v", "error", "-analyzeduration", "500000", "-rtsp_transport", "tcp", "-i", url, "-frames:v", "3", "-f", "framemd5", "-"}, "160x120"},
				// One that thinks it knows better.
				{"ffmpeg", []string{"-v", "error", "-analyzeduration", "500000", "-i", strings.Replace(url, "://", "://guest:guess@", 1), "-frames:v", "2", "-f", "framemd5", "-"}, "160x120"},
			} {
				if method == "basic" && player.name != "ffprobe" {
					continue // the others show how challenges are followed
				}
				ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
				out, err := exec.CommandContext(ctx, testnet.Program(t, player.name), player.args...).CombinedOutput()
				cancel()
				if err != nil || !strings.Contains(string(out), player.want) {
					t.Errorf("%s: %v\n%s", player.name, err, tail(out))
				}
			}
			s.silent(t, "realm=")
			if !strings.Contains(s.wire.String(), "RTSP/1.0 461 ") {
				t.Error("nobody was told that UDP does not come through")
			}
		})
	}
}

func TestPlayersHearOfAWrongPassword(t *testing.T) {
	t.Parallel()
	s := signIn(t, "rtsp", rtspServer(t, "digest", "another"), theUser, thePassword)
	for range 2 {
		out, err := exec.Command(testnet.Program(t, "ffprobe"), "-v", "error", "-analyzeduration", "500000", "rtsp://"+s.address+"/live").CombinedOutput()
		if err == nil || strings.Contains(string(out), "401") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	s.silent(t)
	if !strings.Contains(s.wire.String(), "RTSP/1.0 502 Bad Gateway") || !strings.Contains(s.log.String(), "refuses the user name and password") {
		t.Errorf("wire:\n%s\nlog:\n%s", s.wire, s.log)
	}
	if s.service.Refusal() == nil {
		t.Error("the password does not rest")
	}
}

func curl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(testnet.Program(t, "curl"), append([]string{"-sS", "--no-progress-meter", "--max-time", "20"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %v: %v\n%s", args, err, tail(out))
	}
	return string(out)
}

// site is a directory with a page and a large file.
func site(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	// Servers give up root.
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o755)
	for name, text := range map[string]string{"page.html": "<p>hello</p>\n", "large.bin": strings.Repeat("0123456789abcdef", 1<<18)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// throughCurl asks a web server for this and that.
func throughCurl(t *testing.T, address string) {
	s := signIn(t, "http", address, theUser, thePassword)
	base := "http://" + s.address
	page := base + "/page.html"
	if got := curl(t, page); got != "<p>hello</p>\n" {
		t.Errorf("the page is %q", got)
	}
	// Six requests on one connection, one of them HEAD, one with a password of
	// the client's.
	if got := curl(t, "-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null", page, "-o", "/dev/null", page, "-o", "/dev/null", page); !strings.HasSuffix(got, "200 0\n200 0\n") {
		t.Errorf("on one connection: %s", got)
	}
	if got := curl(t, "-I", page); !strings.Contains(got, "200 OK") || !strings.Contains(got, "ength: 13") {
		t.Errorf("HEAD: %s", got)
	}
	if got := curl(t, "-u", "guest:guess", page); got != "<p>hello</p>\n" {
		t.Errorf("with another password: %q", got)
	}
	if got := curl(t, "--http1.0", page); got != "<p>hello</p>\n" {
		t.Errorf("in HTTP/1.0: %q", got)
	}
	if got := curl(t, "-w", "%{size_download}", "-o", "/dev/null", base+"/large.bin"); got != fmt.Sprint(16<<18) {
		t.Errorf("of the large file came %s bytes", got)
	}
	if got := curl(t, "-r", "16-19", base+"/large.bin"); got != "0123" {
		t.Errorf("a range: %q", got)
	}
	if got := curl(t, "-w", "%{http_code}", "-o", "/dev/null", base+"/missing"); got != "404" {
		t.Errorf("a missing page: %s", got)
	}
	// Six at once share one nonce.
	args := []string{"--parallel", "--parallel-immediate", "--parallel-max", "6"}
	for range 24 {
		args = append(args, "-o", "/dev/null", "-w", "%{http_code}\n", page)
	}
	if got := curl(t, args...); strings.Count(got, "200\n") != 24 {
		t.Errorf("24 at once: %s", got)
	}
	s.silent(t, "realm=")

	wrong := signIn(t, "http", address, theUser, "mistaken")
	for range 3 {
		if got := curl(t, "-w", "%{http_code}", "http://"+wrong.address+"/page.html"); !strings.HasSuffix(got, "502") || !strings.Contains(got, "device keeps for it") {
			t.Errorf("a wrong password: %s", got)
		}
	}
	wrong.silent(t, "realm=", "mistaken")
}

func TestNginxBasic(t *testing.T) {
	t.Parallel()
	throughCurl(t, nginxBasic(t))
}

// nginxBasic starts nginx over site and returns its address.
func nginxBasic(t testing.TB) (address string) {
	t.Helper()
	dir, port := site(t), freePort(t)
	hash, err := exec.Command(testnet.Program(t, "openssl"), "passwd", "-apr1", thePassword).Output()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	writeFile(t, filepath.Join(dir, "users"), theUser+":"+string(hash))
	writeFile(t, conf, `
daemon off; pid `+dir+`/pid; error_log stderr; worker_processes 1; user root;
events {}
http {
  access_log off; client_body_temp_path `+dir+`/body; proxy_temp_path `+dir+`/p; fastcgi_temp_path `+dir+`/f; uwsgi_temp_path `+dir+`/u; scgi_temp_path `+dir+`/s;
  server { listen 127.0.0.1:`+port+`; root `+dir+`; auth_basic "camera"; auth_basic_user_file `+dir+`/users; }
}`)
	out := background(t, exec.Command(debian(t, "/usr/sbin/nginx"), "-c", conf))
	listening(t, "127.0.0.1:"+port, out)
	return "127.0.0.1:" + port
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLighttpdDigest(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		t.Run(algorithm, func(t *testing.T) {
			dir, port := site(t), freePort(t)
			conf := filepath.Join(dir, "conf")
			writeFile(t, filepath.Join(dir, "users"), theUser+":"+thePassword+"\n")
			writeFile(t, conf, `
server.document-root = "`+dir+`"
server.bind = "127.0.0.1"
server.port = `+port+`
server.modules = ( "mod_auth", "mod_authn_file" )
auth.backend = "plain"
auth.backend.plain.userfile = "`+dir+`/users"
auth.require = ( "" => ( "method" => "digest", "realm" => "camera", "algorithm" => "`+algorithm+`", "require" => "valid-user" ) )
`)
			out := background(t, exec.Command(debian(t, "/usr/sbin/lighttpd"), "-D", "-f", conf))
			listening(t, "127.0.0.1:"+port, out)
			throughCurl(t, "127.0.0.1:"+port)
		})
	}
}

// Apache checks more of what it is told than others, and its nonces here last a
// second.
func TestApacheDigest(t *testing.T) {
	t.Parallel()
	dir, port := site(t), freePort(t)
	hash, err := exec.Command("sh", "-c", "printf '%s:camera:%s' "+theUser+" "+thePassword+" | md5sum | cut -d' ' -f1").Output()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "users"), theUser+":camera:"+string(hash))
	var modules bytes.Buffer
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "authn_file", "auth_digest"} {
		fmt.Fprintf(&modules, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	conf := filepath.Join(dir, "conf")
	writeFile(t, conf, modules.String()+`
ServerRoot `+dir+`
ServerName localhost
Listen 127.0.0.1:`+port+`
PidFile `+dir+`/pid
DefaultRuntimeDir `+dir+`
ErrorLog /dev/stderr
DocumentRoot `+dir+`
User nobody
Group nogroup
<Directory `+dir+`>
  AllowOverride None
  AuthType Digest
  AuthName camera
  AuthDigestProvider file
  AuthUserFile `+dir+`/users
  AuthDigestNonceLifetime 1
  Require valid-user
</Directory>
`)
	out := background(t, exec.Command(debian(t, "/usr/sbin/apache2"), "-DFOREGROUND", "-f", conf))
	listening(t, "127.0.0.1:"+port, out)
	throughCurl(t, "127.0.0.1:"+port)
}
