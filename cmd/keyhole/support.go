package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/identity"
)

// supportPoll is how often a hotline looks whether it is still wanted; it notices the end
// of the session itself at once.
const supportPoll = 5 * time.Second

// supportTold is how often the time left is told where there is no terminal to count it on.
const supportTold = 5 * time.Minute

func (a *app) supportCommand() *cobra.Command {
	var o supportFlags
	c := &cobra.Command{
		Use: "support [DEVICE] [--at BASESTATION]", Short: "Help at a device whose owner reads you the code on its display", Args: words(0, 1),
		Long: `The owner presses the device's support button and reads you two numbers: a call number, by
which the basestation knows the device, and a code. Both are asked for, and read from
standard input where there is no terminal. With DEVICE, an address in this network for
example, the code alone is asked for. You see the device and its logs for half an hour; with
--control its display asks whether you may use its services. Meanwhile every other command
reaches the device too. Ctrl-C ends it, and so does a press at the device.`,
		Example: `  keyhole support --at base.example.net:7443 --key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo
  keyhole support 192.0.2.7:7443 --control`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.support(cmd.Context(), cmd, args, o) },
	}
	c.Flags().StringVar(&o.at, "at", "", "`address` of the basestation: HOST:PORT")
	c.Flags().StringArrayVar(&o.keys, "key", nil, "root `key` of the basestation (default: as devices in the address book have it)")
	c.Flags().BoolVar(&o.control, "control", false, "ask to use the services, and open local ports to them")
	c.Flags().StringVar(&o.vendor, "vendor-key", "", "`file` with the vendor's support key, where the device wants one")
	return a.jsonFlag(c)
}

// supportFlags are the flags of support.
type supportFlags struct {
	at      string
	keys    []string
	control bool
	vendor  string
}

// nowSupporting is the first line of `support --json`; open ports follow as of `connect`.
type nowSupporting struct {
	ID          identity.ID `json:"id"`
	Name        string      `json:"name"`
	SecondsLeft int         `json:"seconds_left"`
	Control     string      `json:"control"`
}

func (a *app) support(ctx context.Context, cmd *cobra.Command, args []string, f supportFlags) error {
	h, err := a.home()
	if err != nil {
		return err
	}
	lines := bufio.NewReader(io.LimitReader(a.in, 1<<10))
	o := client.SupportOptions{
		Number: a.typed(lines, "Call number on the device's display: "), Code: a.typed(lines, "Code on the device's display: "),
		Dial: client.DialOptions{Tunnels: f.control, Log: a.log()},
	}
	if len(args) == 1 {
		o.Target = args[0]
	} else if o.At, err = a.supportBase(h, f); err != nil {
		return &usageError{cmd.CommandPath(), err.Error()}
	}
	if f.vendor != "" {
		if o.Vendor, err = identity.Load(f.vendor); err != nil {
			return fmt.Errorf("the vendor's support key: %w", err)
		}
	}
	s, err := h.Support(ctx, o)
	if err != nil {
		return err
	}
	defer s.End()
	if err := a.tellSupport(ctx, s); err != nil {
		return err
	}
	if !f.control {
		return a.keepSupport(ctx, s)
	}
	w, err := a.openSupport(ctx, s)
	if err != nil {
		return err
	}
	return w.alongside(ctx, func(ctx context.Context) error { return a.keepSupport(ctx, s) })
}

// typed asks for a line. An end of the input is an empty one, which is then no number.
func (a *app) typed(lines *bufio.Reader, question string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if a.asking() {
			fmt.Fprint(a.err, question)
		}
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return line, nil
	}
}

// supportBase is the basestation where numbers are known: the one that was named, or that
// of the address book.
func (a *app) supportBase(h *client.Home, f supportFlags) (client.Basestation, error) {
	devices, err := h.Devices()
	if err != nil {
		return client.Basestation{}, err
	}
	var known []client.Basestation
	for _, d := range devices {
		b := d.Basestation
		b.Presence = nil
		same := func(o client.Basestation) bool { return slices.Equal(o.Keys, b.Keys) }
		if !b.IsZero() && (f.at == "" || slices.Contains(b.Addresses, f.at)) && !slices.ContainsFunc(known, same) {
			known = append(known, b)
		}
	}
	switch {
	case f.at != "" && len(f.keys) > 0:
		return client.Basestation{Addresses: []string{f.at}, Keys: f.keys}, nil
	case f.at == "" && len(f.keys) > 0:
		return client.Basestation{}, errors.New("--key is of a basestation: name it with --at")
	case len(known) == 1:
		return known[0], nil
	case f.at == "":
		return client.Basestation{}, errors.New("say where the device's call number is known: --at BASESTATION --key ROOTKEY; or say which DEVICE, and the code is enough")
	}
	return client.Basestation{}, fmt.Errorf("no device in the address book has the basestation %s: its root key is needed too, --key, as `keyhole-basestation key` prints it", f.at)
}

// tellSupport says who was reached, and what a hotline sees first.
func (a *app) tellSupport(ctx context.Context, s *client.Support) error {
	about, err := s.Description(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.line(nowSupporting{about.ID, about.Name, s.Began.SecondsLeft, s.Began.Control})
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, service := range list {
		names = append(names, service.Name)
	}
	_, err = fmt.Fprintf(a.out, "%s (%s, %s, version %s, up %v, services: %s)\n", plain(about.Name), about.ID, plain(about.Product), plain(about.Version),
		time.Duration(about.Uptime)*time.Second, plain(strings.Join(names, " ")))
	a.say("connected for %d minutes; a press at the device, or Ctrl-C, ends it. Meanwhile, for example:", s.Began.SecondsLeft/60)
	a.say("  keyhole events %s --follow", about.ID[:6])
	a.say("  keyhole call %s POST /v1/support/control    (has the display ask whether you may use the services)", about.ID[:6])
	return err
}

// openSupport has the display ask, and opens a port for each service.
func (a *app) openSupport(ctx context.Context, s *client.Support) (*ways, error) {
	a.say("the display asks whether you may use the services: have somebody hold the support button for 3 seconds")
	if _, err := s.AskControl(ctx); err != nil {
		return nil, err
	}
	list, err := s.Services(ctx)
	if err != nil {
		return nil, err
	}
	w := &ways{line: client.KeepUp(s.Conn, client.DialOptions{Tunnels: true, Log: a.log()}, nil)}
	failed := a.sayOnce()
	for _, service := range list {
		if !service.Allowed {
			continue
		}
		f, err := client.NewForward(w.line, service, client.ForwardOptions{Failed: failed})
		if err == nil {
			w.forwards = append(w.forwards, f)
			err = a.showForward(f)
		}
		if err != nil {
			w.close()
			w.line.Close()
			return nil, err
		}
	}
	return w, nil
}

// alongside bridges while do runs.
func (w *ways) alongside(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var bridging sync.WaitGroup
	bridging.Go(func() { _ = w.run(ctx) }) // do says why it is over
	err := do(ctx)
	cancel()
	bridging.Wait()
	return err
}

// errSupportOver means that the device has ended it, or the time is up.
var errSupportOver = errors.New("the support session is over: it was ended at the device, or its time is up")

// keepSupport stays until interrupted, which is a good end, or until the device ends it.
func (a *app) keepSupport(ctx context.Context, s *client.Support) error {
	tick := time.NewTicker(supportPoll)
	defer tick.Stop()
	told := time.Now()
	terminal := isTerminal(a.err) && !a.json
	for {
		select {
		case <-ctx.Done():
			if terminal {
				fmt.Fprintln(a.err)
			}
			return nil
		case <-s.Done():
			return errSupportOver
		case <-tick.C:
		}
		state, err := s.SupportState(ctx)
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil, !state.Mine:
			return errSupportOver
		case terminal:
			fmt.Fprintf(a.err, "\r%d:%02d left ", state.SecondsLeft/60, state.SecondsLeft%60)
		case time.Since(told) >= supportTold:
			told = time.Now()
			a.say("%d minutes left", state.SecondsLeft/60)
		}
	}
}
