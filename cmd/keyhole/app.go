package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/keyholed/keyhole/client"
)

// app is one invocation.
type app struct {
	in       io.Reader
	out, err io.Writer

	dir     string
	verbose bool
	json    bool
	at      elsewhere
}

// home opens the Home that --home names.
func (a *app) home() (*client.Home, error) {
	dir := a.dir
	if dir == "" {
		var err error
		if dir, err = client.DefaultDir(); err != nil {
			return nil, err
		}
	}
	return client.Open(dir)
}

func (a *app) log() *slog.Logger {
	if !a.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// device splits the words of a command into DEVICE, which may be left out where
// only one is paired, and the rest, of which there are n.
func (a *app) device(h *client.Home, args []string, n int) (target string, rest []string, err error) {
	if len(args) > n {
		return args[0], args[1:], nil
	}
	only, err := h.Only()
	if err != nil {
		return "", nil, err
	}
	return string(only.ID), args, nil
}

// slowDial is when a person begins to wonder.
const slowDial = time.Second

// dial opens a session, says when that takes a while, and says plainly when
// nobody vouches for the key.
func (a *app) dial(ctx context.Context, h *client.Home, target string, o client.DialOptions) (*client.Conn, error) {
	o.Log = a.log()
	defer a.waiting("looking for " + target)()
	dial := h.Dial
	if a.at.given() {
		dial = func(ctx context.Context, target string, o client.DialOptions) (*client.Conn, error) {
			return a.dialAt(ctx, h, target, o)
		}
	}
	conn, err := dial(ctx, target, o)
	if err != nil {
		return nil, err
	}
	if conn.Trust() < client.TrustPinned {
		a.say("note: this device is not paired; its key (%s) is %s", conn.Peer().Short(), conn.Trust())
	}
	return conn, nil
}

// waiting says what is being waited for, unless it is over soon. The caller calls
// what it returns when it is.
func (a *app) waiting(text string) (over func()) {
	t := time.AfterFunc(slowDial, func() { a.say("%s…", text) })
	return func() { t.Stop() }
}

// say tells words to the person.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.err, plain(fmt.Sprintf(format, args...)))
}

// asking tells whether there is somebody to ask.
func (a *app) asking() bool { return isTerminal(a.in) }

func isTerminal(x any) bool {
	f, ok := x.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask wants a yes or a no; whatever is not a yes is a no.
func (a *app) ask(question string) bool {
	fmt.Fprint(a.err, plain(question)+" [y/N] ")
	line, _ := bufio.NewReader(io.LimitReader(a.in, 256)).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}
