package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testcmd"
	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyhole": main})
}

// TestScripts runs keyhole against the real keyholed, as a person would.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: setup,
		Cmds: testcmd.Commands(map[string]testcmd.Command{
			"device": startDevice, "stop": stopDevice, "asking": waitAsking, "base": startBase, "shows": readDisplay, "supporting": waitSupport, "get": webGet, "pairas": pairAs,
		}),
	})
}

// keyholed builds the daemon once for all scripts.
var keyholed = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyholed-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../keyholed").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

// scene is what a script has around it.
type scene struct {
	daemon *exec.Cmd
	log    *bytes.Buffer
}

func setup(env *testscript.Env) error {
	dir, err := keyholed()
	if err != nil {
		return err
	}
	// Beside the service, the script's own names: addresses and a free port.
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); r.URL.Path == "/locked" && (user != "a" || password != "b") {
			w.Header().Set("WWW-Authenticate", `Basic realm="web"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "a page for "+r.Host+"\n")
	}))
	env.Defer(web.Close)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = echo.Close() })
	go serveEcho(echo)
	env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("KEYHOLED_SOCKET", filepath.Join(env.WorkDir, "s"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("PORT", freePort())
	env.Values["scene"] = &scene{}
	config := fmt.Sprintf(deviceConfig, strings.TrimPrefix(web.URL, "http://"), echo.Addr(), freePort())
	return os.WriteFile(filepath.Join(env.WorkDir, "device.toml"), []byte(config), 0o600)
}

const deviceConfig = `[device]
name = "Front door"
product = "test-1"
listen = ["127.0.0.1:0"]
state = "state"
identity = "identity"
[[service]]
name = "web"
type = "http"
address = %q
[[service]]
name = "echo"
type = "tcp"
address = %q
[[service]]
name = "dead"
type = "tcp"
address = "127.0.0.1:%s"
[pairing]
modes = ["button"]
role = "viewer"
[board]
profile = "simulated"
`

// serveEcho answers with what came, in capitals, once it has all come.
func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			data, _ := io.ReadAll(c)
			_, _ = c.Write(bytes.ToUpper(data))
		}()
	}
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// startDevice is "device [flags of keyholed run]": it runs until stop or the
// script's end, and sets ADDRESS and ID.
func startDevice(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("scene").(*scene)
	ready := ts.MkAbs("s")
	s.log = new(bytes.Buffer)
	s.daemon = exec.Command(mustLook(ts, "keyholed"), append([]string{"run", "--config", ts.MkAbs("device.toml"), "--socket", ready}, args...)...)
	s.daemon.Dir, s.daemon.Stderr, s.daemon.Stdout = ts.MkAbs("."), s.log, s.log
	ts.Check(s.daemon.Start())
	running := s.daemon
	ts.Defer(func() { endDaemon(running) })
	var status control.Status
	wait(ts, "device", func() bool {
		out, err := exec.Command(running.Path, "status", "--json", "--socket", ready).Output()
		return err == nil && json.Unmarshal(out, &status) == nil && len(status.Listen) > 0
	})
	ts.Setenv("ADDRESS", status.Listen[0])
	ts.Setenv("ID", string(status.ID))
	ts.Setenv("PREFIX", string(status.ID[:6]))
}

func mustLook(ts *testscript.TestScript, name string) string {
	dir, err := keyholed()
	ts.Check(err)
	return filepath.Join(dir, name)
}

func endDaemon(c *exec.Cmd) {
	if c.ProcessState == nil {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

func stopDevice(ts *testscript.TestScript, _ bool, _ []string) {
	endDaemon(ts.Value("scene").(*scene).daemon)
}

// telling fails with what the device says.
type telling struct{ *testscript.TestScript }

func (t telling) Fatalf(format string, args ...any) {
	endDaemon(t.Value("scene").(*scene).daemon) // then nobody writes the log any more
	t.TestScript.Fatalf("%s; the device says:\n%s", fmt.Sprintf(format, args...), t.Value("scene").(*scene).log)
}

func wait(ts *testscript.TestScript, what string, done func() bool) {
	testnet.Until(telling{ts}, what, done)
}

// waitAsking waits until a client's digits are shown and sets DIGITS, grouped.
func waitAsking(ts *testscript.TestScript, _ bool, _ []string) {
	var status control.Status
	wait(ts, "asking", func() bool {
		out, err := exec.Command(mustLook(ts, "keyholed"), "status", "--json", "--socket", ts.MkAbs("s")).Output()
		return err == nil && json.Unmarshal(out, &status) == nil && status.Pairing.Asking != nil
	})
	check := status.Pairing.Asking.Check
	ts.Setenv("DIGITS", check[:3]+" "+check[3:])
}

// pairAs is "pairas HOME USER": the two presses and what is between them.
func pairAs(ts *testscript.TestScript, _ bool, args []string) {
	press := func() {
		ts.Check(ts.Exec(mustLook(ts, "keyholed"), "press", "pair"))
	}
	press()
	done := make(chan error, 1)
	c := exec.Command(lookIn(ts.Getenv("PATH"), "keyhole"), "--home", ts.MkAbs(args[0]),
		"pair", ts.Getenv("ADDRESS"), "--as", args[1], "--name", args[1]+"'s key")
	c.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	var out bytes.Buffer
	c.Stderr, c.Stdout = &out, &out
	go func() { done <- c.Run() }()
	waitAsking(ts, false, nil)
	press()
	if err := <-done; err != nil {
		ts.Fatalf("pair as %s: %v\n%s", args[1], err, out.String())
	}
}

func lookIn(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, name); isFile(full) {
			return full
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// webGet is "get STATUS URL [Header: value]": it waits until somebody listens.
func webGet(ts *testscript.TestScript, _ bool, args []string) {
	var response *http.Response
	wait(ts, args[1], func() bool {
		r, err := http.NewRequest(http.MethodGet, args[1], nil)
		ts.Check(err)
		for _, h := range args[2:] {
			name, value, _ := strings.Cut(h, ": ")
			if r.Header.Set(name, value); name == "Host" {
				r.Host = value
			}
		}
		response, err = http.DefaultClient.Do(r)
		return err == nil
	})
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	ts.Logf("%s %s", response.Status, body)
	if strconv.Itoa(response.StatusCode) != args[0] {
		ts.Fatalf("%s, want %s", response.Status, args[0])
	}
}
