package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
)

func (a *app) pairCommand() *cobra.Command {
	var o client.PairOptions
	var wait time.Duration
	var code string
	c := &cobra.Command{
		Use: "pair [DEVICE|ADDRESS|LINK]", Short: "Become a user of a device: by its pair button, a code, or a link", Args: words(0, 1),
		Long: `Press the device's pair button first; it then waits for three minutes. Both sides show
six digits: if they are the same, press the button again. A device with a display may show
a code instead, or take the one on its label: type it, and no second press is needed.
Without a word it pairs with the one device on this network that is waiting. An id from
the device's label instead of an address proves the device without comparing. A link
from somebody who invites you (keyhole:…) needs no button and works from anywhere.`,
		Example: `  keyhole pair --as "Alice" --name "Alice's laptop"
  keyhole pair --code "1234 5678"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Code = a.codeFrom(code)
			return a.pair(cmd.Context(), args, wait, o)
		},
	}
	c.Flags().StringVar(&o.User, "as", "", "your `name` at the device (default: as on this machine)")
	c.Flags().StringVar(&o.Name, "name", "", "`name` of this client's key (default: this machine's)")
	c.Flags().StringVar(&code, "code", "", "`code` on the device's display or label, instead of being asked for it")
	c.Flags().DurationVar(&wait, "wait", client.FindTime, "how long to look for devices on the network")
	return a.jsonFlag(c)
}

// codeFrom is where the code on the display comes from: the flag, or the person.
func (a *app) codeFrom(flag string) func(context.Context, client.Wanted) (string, error) {
	if flag != "" {
		return func(context.Context, client.Wanted) (string, error) { return flag, nil }
	}
	if !a.asking() {
		return nil
	}
	return func(_ context.Context, w client.Wanted) (string, error) {
		fmt.Fprint(a.err, codeQuestion(w))
		line, _ := bufio.NewReader(io.LimitReader(a.in, 256)).ReadString('\n')
		return line, nil
	}
}

// codeQuestion says where to look for the code.
func codeQuestion(w client.Wanted) string {
	where := "display"
	switch {
	case w.Display && w.Label:
		where = "display or label"
	case w.Label:
		where = "label"
	}
	if w.Digits {
		where += " (nothing: compare digits instead)"
	}
	return "Code on the device's " + where + ": "
}

func (a *app) pair(ctx context.Context, args []string, wait time.Duration, o client.PairOptions) error {
	h, err := a.home()
	if err != nil {
		return err
	}
	o.Dial.Log, o.Dial.Find = a.log(), wait
	found, stop := func() {}, func() {}
	o.Check = func(d client.Digits) error {
		found()
		stop = a.showDigits(ctx, d)
		return nil
	}
	var done client.Paired
	if len(args) == 1 {
		whom := args[0]
		if client.IsLink(whom) {
			whom = "the device of the link"
		}
		found = a.waiting("looking for " + whom)
		done, err = h.Pair(ctx, args[0], o)
		found()
	} else {
		var f client.Found
		if f, err = a.onlyOpen(ctx, wait); err != nil {
			return err
		}
		done, err = h.PairFound(ctx, f, o)
	}
	stop()
	if err != nil {
		return err
	}
	return a.paired(ctx, h, done)
}

// onlyOpen finds the one device whose pairing window is open.
func (a *app) onlyOpen(ctx context.Context, wait time.Duration) (client.Found, error) {
	found, err := a.find(ctx, wait)
	if err != nil {
		return client.Found{}, err
	}
	open := slices.DeleteFunc(slices.Clone(found), func(f client.Found) bool { return len(f.Pair) == 0 })
	switch {
	case len(open) == 1:
		return open[0], nil
	case len(open) > 1:
		a.say("%d devices are open for pairing. Say which:", len(open))
		for _, f := range open {
			a.say("  keyhole pair %s    (%s)", f.ID, f.Name)
		}
		return client.Found{}, errSilent(control.ExitUsage)
	case len(found) > 0:
		a.say("%s heard on this network, none open for pairing", count(len(found), "device"))
		return client.Found{}, client.ErrWindowClosed
	}
	return client.Found{}, &client.UnreachableError{Device: "a device", Err: client.ErrNotAnswered}
}

// showDigits prints the digits, big enough to be found, and counts down to the
// press. The caller calls what it returns when the wait is over.
func (a *app) showDigits(ctx context.Context, d client.Digits) (stop func()) {
	name := plain(d.Device)
	if name == "" {
		name = "The device"
	}
	fmt.Fprintf(a.err, "%s asks you to compare:\n\n      %s\n\n", name, d.Check.Grouped())
	if d.Trust >= client.TrustID {
		a.say("It has proven the id you named. When its display shows these digits, press its pair button.")
	} else {
		a.say("The same on its display, or in `keyholed status` there? Then, and only then, press its pair button.")
	}
	return a.countDown(ctx, "waiting for the press at the device", client.PressTime)
}

// countDown shows the seconds left on a terminal, and one line elsewhere.
func (a *app) countDown(ctx context.Context, text string, left time.Duration) (stop func()) {
	if !isTerminal(a.err) {
		a.say("%s… %.0f s", text, left.Seconds())
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ; left > 0; left -= time.Second {
			fmt.Fprintf(a.err, "\r%s… %2.0f s ", text, left.Seconds())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-over
		fmt.Fprintf(a.err, "\r%s\r", strings.Repeat(" ", len(text)+8))
	}
}

// nowPaired is `pair --json`.
type nowPaired struct {
	client.Device
	Already bool `json:"already"`
}

// paired tells how it went, and asks for the digits where only they can prove
// that nobody is in the middle.
func (a *app) paired(ctx context.Context, h *client.Home, p client.Paired) error {
	d := p.Device
	if !d.Checked && !p.Already && a.asking() {
		if !a.ask("Did the device show the same digits?") {
			return a.unpair(ctx, h, d)
		}
		if err := h.Confirm(d); err != nil {
			return err
		}
		d.Checked = true
	}
	if !d.Checked {
		if p.Kind != "" {
			a.say("note: nothing says yet that this is your device: its key is %s. Compare its id with the label or `keyholed status`: %s", p.Trust, d.ID)
		} else if p.Trust == client.TrustPinned {
			a.say("note: the key is the one that was trusted before; nobody has compared digits or id so far. Its id, to compare with `keyholed status`: %s", d.ID)
		} else {
			a.say("note: nothing but the digits says that this is your device: its key is %s. Compare its id with `keyholed status`: %s", p.Trust, d.ID)
		}
	}
	if a.json {
		return a.document(nowPaired{d, p.Already})
	}
	verb := "Paired with"
	switch {
	case p.Kind != "":
		verb = "No need to pair with"
	case p.Already:
		verb = "Paired before with"
	}
	_, err := fmt.Fprintf(a.out, "%s %s. You are %s, %s.\n", verb, plain(d.String()), plain(d.User), plain(d.Role))
	return err
}

// unpair undoes a pairing in which the digits were not the same.
func (a *app) unpair(ctx context.Context, h *client.Home, d client.Device) error {
	conn, err := h.DialDevice(ctx, d, client.DialOptions{Find: -1})
	if err == nil {
		_, err = conn.Revoke(ctx, h.Key().Fingerprint().String())
		conn.Close()
	}
	if err := h.Forget(d.Fingerprint); err != nil {
		return err
	}
	a.say("Not paired: whoever answered is not your device, or somebody stands between. Your device may have let somebody else in: look at `keyholed users` there, and revoke whom you do not know.")
	if err != nil {
		a.say("(What answered did not take the pairing back: %v)", err)
	}
	return errSilent(control.ExitRefused)
}
