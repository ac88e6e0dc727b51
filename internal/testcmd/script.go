// Package testcmd is what the tests of the programs have in common: commands for
// their scripts (testscript), and the sessions of the README, pasted into a shell.
package testcmd

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyholed/keyhole/internal/testnet"
)

// A Command is one that a script can give.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Commands are those of all scripts, and more:
//
//	exits CODE COMMAND...      the command ends with this very code
//	signal NAME                sends a signal to the process whose number is in the file pid
//	waitsocket PATH [gone]     somebody answers at a Unix socket, or nobody does any more
//	waitlog FILE TEXT          waits until the file, a log, has the text
//	setvar NAME FILE           puts the first line of a file into a variable
func Commands(more map[string]Command) map[string]Command {
	all := map[string]Command{"exits": exits, "signal": signal, "waitsocket": waitSocket, "waitlog": waitLog, "setvar": setVar}
	maps.Copy(all, more)
	return all
}

// Short makes a directory for the length of a script whose name is short: paths of sockets are
// at most 107 bytes.
func Short(e *testscript.Env) (string, error) {
	short, err := os.MkdirTemp("", "kh")
	if err == nil {
		e.Defer(func() { _ = os.RemoveAll(short) })
	}
	e.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command else
	return short, err
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s: exit code %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func signal(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile("pid")))
	ts.Check(err)
	process, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(process.Signal(map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]))
}

func waitSocket(ts *testscript.TestScript, _ bool, args []string) {
	gone := len(args) == 2 && args[1] == "gone"
	testnet.Until(ts, fmt.Sprint("waitsocket ", args), func() bool {
		c, err := net.Dial("unix", args[0])
		if err == nil {
			_ = c.Close()
		}
		return gone == (err != nil)
	})
}

func waitLog(ts *testscript.TestScript, _ bool, args []string) {
	testnet.Until(ts, args[0]+" has "+args[1], func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(data), args[1])
	})
}

func setVar(ts *testscript.TestScript, _ bool, args []string) {
	first, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], first)
}
