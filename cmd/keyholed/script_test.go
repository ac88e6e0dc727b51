package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyholed": main})
}

// TestScripts runs testdata/*.txtar: the command line as one types it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// Paths of sockets are at most 107 bytes.
			short, err := os.MkdirTemp("", "kh")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(short) })
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command else
			e.Setenv("SOCK", filepath.Join(short, "s"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "waitsocket": waitSocket, "helpexample": helpExample, "signal": signalDaemon, "waitlog": waitLog,
		},
	})
}

// exits CODE COMMAND...: the command ends with this very code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// waitsocket [gone]: the daemon answers at $SOCK, or has gone from there.
func waitSocket(ts *testscript.TestScript, _ bool, args []string) {
	gone := len(args) == 1 && args[0] == "gone"
	testnet.Until(ts, "the socket changes", func() bool {
		c, err := net.Dial("unix", ts.Getenv("SOCK"))
		if err == nil {
			_ = c.Close()
		}
		return gone == (err != nil)
	})
}

// signal NAME sends a signal to the process whose number is in the file pid.
func signalDaemon(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile("pid")))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}[args[0]]))
}

// waitlog FILE TEXT waits until the file, a log, has the text.
func waitLog(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Until(ts, args[0]+" has "+args[1], func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(data), args[1])
	})
}

// helpexample runs the last line of `keyholed help`, as one who pastes it.
func helpExample(ts *testscript.TestScript, _ bool, _ []string) {
	lines := strings.Split(strings.TrimSpace(usage), "\n")
	if err := ts.Exec("sh", "-c", strings.TrimSpace(lines[len(lines)-1])); err != nil {
		ts.Fatalf("%s: %v", lines[len(lines)-1], err)
	}
}

func TestUsageFitsAScreen(t *testing.T) {
	lines := strings.Split(usage, "\n")
	if len(lines) > 24 {
		t.Errorf("usage has %d lines, want at most 24", len(lines))
	}
	for _, c := range commands {
		if !strings.Contains(usage, "keyholed "+c.name) {
			t.Errorf("usage does not name %q", c.name)
		}
	}
}

func TestGuess(t *testing.T) {
	for word, want := range map[string]string{"stat": "status", "press-pair": "press", "revok": "revoke", "x": "", "zzz": ""} {
		if got := guess(word); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("guess(%q) = %q, want %q", word, got, want)
		}
	}
}
