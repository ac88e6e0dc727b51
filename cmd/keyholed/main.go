// Keyholed is the device daemon: it gives a board an identity, pairs it with its
// owner at the press of a button, and bridges its local services to paired
// clients, encrypted end to end.
//
// It reads /etc/keyhole/keyholed.toml and writes the identity and state
// directories named there; ARCHITECTURE.md lists the files. `keyholed run` is the
// daemon, the other commands but check and init talk to it over its Unix socket.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/version"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

const usage = `keyholed makes this device reachable by the people who own it, and by nobody else.

  keyholed run [--config FILE]              run in the foreground (systemd starts this)
  keyholed check [--config FILE]            read and validate everything, touch nothing
  keyholed init [--config FILE]             write a small commented configuration
  keyholed status [--json]                  who we are and how it goes
  keyholed pair open|accept [FINGERPRINT]|close    what presses of the pair button do
  keyholed press pair|support|reset [--hold DURATION]    on the simulated board
  keyholed display [--png FILE]             what the simulated display shows
  keyholed label [--png FILE] [--replace]   make the code for the sticker, tell it once
  keyholed users [--json]                   who may enter
  keyholed revoke USER|FINGERPRINT          and who may no longer
  keyholed why USER ACTION [SERVICE]        would that be allowed now, and why
  keyholed audit [--json] [--after N]       who did, tried and was refused what; --json is an export
  keyholed audit --verify [FILE ID]         is the log whole; or an export, by the device's id alone
  keyholed reset --erase-everything         factory reset: nobody may enter any more, the key stays
  keyholed version

--socket FILE, or KEYHOLED_SOCKET, names the daemon's socket for each of them.
run takes --state, --identity and --listen to override the file, and --verbose.

To try it without a board:
  keyholed init --config ./keyholed.toml && keyholed check --config ./keyholed.toml
`

// A usageError ends the program with exit code 2 and shows how it is meant.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// A command is one word of the command line.
type command struct {
	name string
	run  func(c *call) error
}

var commands = []command{
	{"run", runDaemon}, {"check", check}, {"init", initialise},
	{"status", status}, {"pair", pair}, {"press", press}, {"display", display},
	{"users", users}, {"revoke", revoke}, {"why", why}, {"audit", audit}, {"reset", reset}, {"label", label}, {"version", printVersion},
}

// A call is one invocation with the flags that every command shares.
type call struct {
	flags  *flag.FlagSet
	args   []string // behind the flags
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	config    string
	socket    string
	json      bool
	overrides config.Overrides
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return control.ExitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(stdout, usage)
		return control.ExitDone
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, cmd := range commands {
		if cmd.name == args[0] {
			c := &call{flags: flag.NewFlagSet("keyholed "+cmd.name, flag.ContinueOnError), args: args[1:], stdin: stdin, stdout: stdout, stderr: stderr}
			return report(cmd.run(c), stderr)
		}
	}
	fmt.Fprintf(stderr, "keyholed: there is no command %q%s\nTry: keyholed help\n", args[0], guess(args[0]))
	return control.ExitUsage
}

func report(err error, stderr io.Writer) int {
	var wrong *usageError
	switch {
	case err == nil:
		return control.ExitDone
	case errors.Is(err, flag.ErrHelp):
		return control.ExitDone
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "keyholed: %v\nTry: keyholed help\n", err)
		return control.ExitUsage
	}
	fmt.Fprintf(stderr, "keyholed: %v\n", err)
	return control.ExitCode(err)
}

// guess names the command that begins alike.
func guess(word string) string {
	for _, cmd := range commands {
		if len(word) >= 2 && (strings.HasPrefix(cmd.name, word[:2]) || strings.HasPrefix(word, cmd.name)) {
			return fmt.Sprintf(": did you mean %q?", cmd.name)
		}
	}
	return ""
}

// parse reads flags wherever they stand, as people type them, and checks the
// number of words left over.
func (c *call) parse(least, most int) error {
	c.flags.SetOutput(io.Discard)
	c.flags.StringVar(&c.socket, "socket", "", "")
	var words []string
	rest := c.args
	for {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(c.stdout, usage)
				return err
			}
			return usagef("%v", err)
		}
		rest = c.flags.Args()
		if len(rest) == 0 {
			break
		}
		words, rest = append(words, rest[0]), rest[1:]
	}
	if len(words) < least {
		return usagef("%s: something is missing", c.flags.Name())
	}
	if len(words) > most {
		return usagef("%s does not understand %q", c.flags.Name(), words[most])
	}
	c.args = words
	if c.socket == "" {
		c.socket = os.Getenv(envSocket)
	}
	return nil
}

// envSocket names the daemon's socket for a whole shell session, as a trial on a
// laptop needs it; --socket wins.
const envSocket = "KEYHOLED_SOCKET"

// daemon returns a client of the running daemon.
func (c *call) daemon() *control.Client {
	if c.socket == "" {
		c.socket = config.DefaultSocket
	}
	return control.NewClient(c.socket)
}

func printVersion(c *call) error {
	_, err := fmt.Fprintln(c.stdout, "keyholed", version.String())
	return err
}
