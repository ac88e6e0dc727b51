// Keyhole-basestation is the program of the operator: it introduces clients to
// devices and relays what cannot go direct, keeps the records of devices, and
// answers the operator's HTTPS API.
//
// `serve` is the basestation; it keeps everything in one data directory, which
// docs/operator.md lists. key, check, secret and batch work without it; devices,
// device, token and status ask the running one over a Unix socket in that
// directory.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/basestation/config"
	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/protocol/api"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

const usage = `keyhole-basestation introduces clients to devices, and relays what it cannot read.

  keyhole-basestation serve [--config FILE] [--listen :7443]... [--advertise IP:PORT]... [--api 127.0.0.1:7480]
                            [--nats URL] [--enrol open|listed|secret] [--verbose]
  keyhole-basestation check [--config FILE]      read and validate the configuration, touch nothing
  keyhole-basestation key [--all]                for ` + "`key`" + ` in a device's configuration; made when there is none
  keyhole-basestation status [--json]            who we are and how many are here
  keyhole-basestation devices [--json] [--state attached|gone|registered]
  keyhole-basestation device show|block|reopen|remove ID|SERIAL [--reason TEXT] [--json]
  keyhole-basestation device add ID|FINGERPRINT|SERIAL [--vendor NAME] [--note TEXT]    of a serial number: prints its new secret
  keyhole-basestation token create [--scope read|write] [--uses N] [--expires 24h] [--name TEXT] | list | remove ID
  keyhole-basestation secret derive SERIAL       the factory secret, from the master secret
  keyhole-basestation batch N [--prefix ACME-] [--first 1] [--random] [--json]    serials, secrets, labels
  keyhole-basestation version

--data DIR, or KEYHOLE_BASESTATION_DATA, names the data directory for each of them. Provisioning
over the network (--provision, provision-proxy) is not in this version. To try it:

  keyhole-basestation serve --data ./base --listen 127.0.0.1:7443 &  keyhole-basestation key --data ./base; kill $!
`

// Exit codes, the same for all our programs.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
	exitNotFound    = 5
)

// envData names the data directory for a whole shell session; --data wins.
const envData = "KEYHOLE_BASESTATION_DATA"

// A usageError ends the program with exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

type command struct {
	name string
	run  func(c *call) error
}

var commands = []command{
	{"serve", serve}, {"check", check}, {"key", key}, {"status", status}, {"devices", devices}, {"device", device},
	{"token", token}, {"secret", secret}, {"batch", batch}, {"version", printVersion},
}

// A call is one invocation with the flags that every command shares.
type call struct {
	flags  *flag.FlagSet
	args   []string // behind the flags
	stdout io.Writer
	stderr io.Writer

	config    string
	json      bool
	overrides config.Overrides
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(stdout, usage)
		return exitDone
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, cmd := range commands {
		if cmd.name == args[0] {
			c := &call{flags: flag.NewFlagSet(cmd.name, flag.ContinueOnError), args: args[1:], stdout: stdout, stderr: stderr}
			return report(cmd.run(c), stderr)
		}
	}
	if args[0] == "provision-proxy" {
		return report(errors.New("provision-proxy is not in this version: there is no provisioning over the network that it could stand before"), stderr)
	}
	fmt.Fprintf(stderr, "keyhole-basestation: there is no command %q%s\nTry: keyhole-basestation help\n", args[0], guess(args[0]))
	return exitUsage
}

func report(err error, stderr io.Writer) int {
	var wrong *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.As(err, &wrong), ofFlags(err), api.IsCode(err, api.CodeMalformed):
		fmt.Fprintf(stderr, "keyhole-basestation: %v\nTry: keyhole-basestation help\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "keyhole-basestation: %v\n", err)
	var gone *admin.NotRunningError
	switch {
	case errors.As(err, &gone) && !errors.Is(err, fs.ErrPermission):
		return exitUnreachable
	case api.IsCode(err, api.CodeNotFound):
		return exitNotFound
	case errors.As(err, &gone), api.IsCode(err, api.CodeForbidden):
		return exitRefused
	}
	return exitFailed
}

// ofFlags tells whether a configuration is wrong because of the command line alone.
func ofFlags(err error) bool {
	var all config.Errors
	return errors.As(err, &all) && !slices.ContainsFunc(all, func(e *config.Error) bool { return !strings.HasPrefix(e.Key, "--") })
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

// listFlag collects a flag that may be given more than once.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// parse reads flags wherever they stand, as people type them, and checks the
// number of words left over.
func (c *call) parse(least, most int) error {
	c.flags.SetOutput(io.Discard)
	c.flags.StringVar(&c.config, "config", "", "")
	c.flags.StringVar(&c.overrides.Data, "data", os.Getenv(envData), "")
	var words []string
	for rest := c.args; ; {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(c.stdout, usage)
				return err
			}
			return usagef("%v", err)
		}
		if rest = c.flags.Args(); len(rest) == 0 {
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
	return nil
}

// load reads the configuration that the command line names.
func (c *call) load() (*config.Config, error) { return config.Load(c.config, c.overrides) }

func check(c *call) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	name := cfg.File
	if name == "" {
		name = "the default configuration"
	}
	_, err = fmt.Fprintf(c.stdout, "%s is right: enrolment %s, %d webhooks, data in %s\n", name, cfg.Enrol.Mode, len(cfg.Webhooks), cfg.Basestation.Data)
	return err
}

func printVersion(c *call) error {
	_, err := fmt.Fprintln(c.stdout, "keyhole-basestation", version.String())
	return err
}
