package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/api"
)

func (a *app) connectCommand() *cobra.Command {
	var unix string
	var e elsewhere
	c := &cobra.Command{
		Use: "connect [DEVICE] SERVICE[:LOCALPORT]... [--unix PATH]", Short: "Open local ports to services, until interrupted", Args: words(1, -1),
		Long: `Prints one URL for each service and bridges until interrupted. Ports are on the loopback
address; web pages of others cannot use those of http services. Other users of this machine
can reach a port: where there are any, use --unix, which only you may open.
DEVICE may be left out where one device is paired. One that is not paired is ID, ID@HOST or
an address, or an ID known to the basestation that --at names; its services that ask
for a password themselves can be connected to.`,
		Example: `  keyhole connect rtsp web:8080
  keyhole connect mfrggzdfmztwq2lknnwg23tpob@192.0.2.7 web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.connect(cmd.Context(), cmd, args, unix, e)
		},
	}
	e.flags(c)
	c.Flags().StringVar(&unix, "unix", "", "serve on a Unix socket at `PATH` instead of a port")
	return a.jsonFlag(c)
}

// A wish is SERVICE[:LOCALPORT].
type wish struct {
	service string
	port    int // 0: any
}

func parseWish(s string) (wish, error) {
	name, port, named := strings.Cut(s, ":")
	if name == "" || !plainService(name) {
		return wish{}, fmt.Errorf("%q is no service: names are lower-case letters, digits and hyphens", s)
	}
	if !named {
		return wish{service: name}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return wish{}, fmt.Errorf("%q: a local port is a number from 1 to 65535", s)
	}
	return wish{name, int(n)}, nil
}

func plainService(name string) bool {
	return len(name) <= 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// connectWords tells DEVICE, which may be left out, from services.
func (a *app) connectWords(h *client.Home, args []string) (target string, services []string, err error) {
	if len(args) > 1 {
		t, wrong := client.ParseTarget(args[0])
		if _, err := h.Lookup(args[0]); err == nil || !plainWish(args[0]) || wrong == nil && t.ID != "" {
			return args[0], args[1:], nil
		}
	}
	only, err := h.Only()
	var many *client.AmbiguousError
	if errors.As(err, &many) && len(args) > 1 {
		return args[0], args[1:], nil // Dial says what is wrong with it
	}
	return string(only.ID), args, err
}

func plainWish(s string) bool {
	_, err := parseWish(s)
	return err == nil
}

// ways is one session with the local ports that lead over it.
type ways struct {
	line     *client.Line
	forwards []*client.Forward
}

func (a *app) connect(ctx context.Context, cmd *cobra.Command, args []string, unix string, e elsewhere) error {
	for _, word := range args[min(1, len(args)-1):] { // whatever DEVICE is, these are services
		if _, err := parseWish(word); err != nil {
			return usagef(cmd, "%v", err)
		}
	}
	h, err := a.home()
	if err != nil {
		return err
	}
	target, names, err := a.connectWords(h, args)
	if err != nil {
		return err
	}
	if unix != "" && len(names) != 1 {
		return usagef(cmd, "--unix is one socket for one service")
	}
	w, err := a.openWays(ctx, cmd, h, target, names, unix, e)
	if err != nil {
		return err
	}
	for _, f := range w.forwards {
		if err := a.showForward(f); err != nil {
			return err
		}
	}
	a.say("bridging until interrupted (Ctrl-C)")
	return w.run(ctx)
}

// openWays opens a session and a local port for each service.
func (a *app) openWays(ctx context.Context, cmd *cobra.Command, h *client.Home, target string, names []string, unix string, e elsewhere) (*ways, error) {
	var wishes []wish
	for _, name := range names {
		w, err := parseWish(name)
		if err != nil {
			return nil, usagef(cmd, "%v", err)
		}
		wishes = append(wishes, w)
	}
	conn, o, err := a.dialFor(ctx, cmd, h, target, e)
	if err != nil {
		return nil, err
	}
	list, err := conn.Services(ctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	w := &ways{}
	w.line = client.KeepUp(conn, o, a.lineChanged(conn.Device()))
	failed := a.sayOnce()
	for _, wish := range wishes {
		s, err := findService(conn, list, wish.service)
		if err == nil {
			var f *client.Forward
			if f, err = client.NewForward(w.line, s, client.ForwardOptions{Port: wish.port, Unix: unix, Failed: failed}); err == nil {
				w.forwards = append(w.forwards, f)
			}
		}
		if err != nil {
			w.close()
			w.line.Close()
			return nil, err
		}
	}
	return w, nil
}

func findService(conn *client.Conn, list []api.Service, name string) (api.Service, error) {
	d := conn.Device()
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	i := slices.Index(names, name)
	switch {
	case i < 0 && conn.Trust() < client.TrustPinned:
		return api.Service{}, api.Problemf(api.CodeForbidden, "%s has no service %q for who is not paired: it has %s", d, name, strings.Join(names, ", "))
	case i < 0:
		return api.Service{}, api.Problemf(api.CodeNotFound, "%s has no service %q: it has %s", d, name, strings.Join(names, ", "))
	case !list[i].Allowed:
		return api.Service{}, api.Problemf(api.CodeForbidden, "%s does not let you use %q: its owner can change that", d, name)
	}
	return list[i], nil
}

// lineChanged tells when the device goes and comes.
func (a *app) lineChanged(d client.Device) func(error) {
	return func(err error) {
		if err != nil {
			a.say("%s is gone (%v): trying again", d, err)
		} else {
			a.say("%s is back", d)
		}
	}
}

// sayOnce tells errors, but the same one not twice in a row: a browser asks often.
func (a *app) sayOnce() func(error) {
	var mu sync.Mutex
	last := ""
	return func(err error) {
		_, what, _ := explain(err)
		mu.Lock()
		defer mu.Unlock()
		if what != last {
			a.say("%s", what)
			last = what
		}
	}
}

// openPort is a line of `connect --json`.
type openPort struct {
	Service string `json:"service"`
	Type    string `json:"type"`
	URL     string `json:"url"`
	Address string `json:"address"`
}

func (a *app) showForward(f *client.Forward) error {
	s := f.Service()
	if a.json {
		return a.line(openPort{s.Name, s.Type, f.URL(), f.Address()})
	}
	_, err := fmt.Fprintf(a.out, "%-5s %s\n", s.Name, f.URL())
	return err
}

func (w *ways) close() {
	for _, f := range w.forwards {
		_ = f.Close()
	}
}

// run bridges until ctx ends, the device wants us no more, or a port fails.
func (w *ways) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, 1+len(w.forwards))
	go func() { results <- w.line.Run(ctx) }()
	for _, f := range w.forwards {
		go func() { results <- f.Run(ctx) }()
	}
	var first error
	for range cap(results) {
		if err := <-results; err != nil && first == nil {
			first = err
		}
		cancel()
	}
	return first
}
