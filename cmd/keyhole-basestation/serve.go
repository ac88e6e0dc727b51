package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/keyholed/keyhole/basestation/config"
	"github.com/keyholed/keyhole/systemd"
)

func serve(c *call) error {
	c.flags.Var((*listFlag)(&c.overrides.Listen), "listen", "")
	c.flags.Var((*listFlag)(&c.overrides.Advertise), "advertise", "")
	c.flags.Func("api", "", func(s string) error { c.overrides.API = &s; return nil })
	c.flags.StringVar(&c.overrides.NATS, "nats", "", "")
	c.flags.StringVar(&c.overrides.Enrol, "enrol", "", "")
	c.flags.Func("provision", "", func(string) error { return errors.New("provisioning is not in this version") })
	verbose := c.flags.Bool("verbose", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	// Everything that can be checked is checked before anything is touched.
	cfg, err := c.load()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	return runNode(cfg, systemd.NewLogger(level))
}

// runNode serves until a signal: the first drains, the second hurries.
func runNode(cfg *config.Config, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	hurried, hurry := context.WithCancel(context.Background())
	defer hurry()
	go func() {
		for {
			select {
			case <-signals:
			case <-hurried.Done():
				return
			}
			if ctx.Err() != nil {
				log.Warn("a second signal: nobody is waited for")
				hurry()
			}
			drain()
		}
	}()
	notify := &systemd.Notifier{Log: log}
	notify.Status("opening the store")
	n, err := openNode(ctx, cfg, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped before it served", "waited_for", err)
		return nil
	}
	if err != nil {
		return explain(err, cfg)
	}
	err = n.run(ctx, hurried, notify)
	return errors.Join(err, n.close())
}

// explain adds the next command to what often goes wrong at a start.
func explain(err error, cfg *config.Config) error {
	var listen *net.OpError
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w\nTry: --data DIR for a directory of your own (this one is %s)", err, cfg.Basestation.Data)
	case errors.As(err, &listen) && errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w\nTry: --listen and --api with other ports", err)
	}
	return err
}
