package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyholed/keyhole/daemon"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/systemd"
)

// listenFlag collects --listen, which may be given more than once.
type listenFlag []string

func (l *listenFlag) String() string { return strings.Join(*l, ",") }

func (l *listenFlag) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// load reads and checks the configuration that the command line names.
func (c *call) load() (*config.Config, error) {
	cfg, err := config.Load(config.Path(c.config), c.overrides)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w\nTry: keyholed init --config %s", err, config.Path(c.config))
		}
		return nil, err
	}
	if err := daemon.Check(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

func (c *call) configFlags() {
	c.flags.StringVar(&c.config, "config", "", "")
	c.flags.StringVar(&c.overrides.State, "state", "", "")
	c.flags.StringVar(&c.overrides.Identity, "identity", "", "")
	c.flags.Var((*listenFlag)(&c.overrides.Listen), "listen", "")
}

func runDaemon(c *call) error {
	c.configFlags()
	verbose := c.flags.Bool("verbose", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	c.overrides.Socket = c.socket
	// Everything that can be checked is checked before anything is touched.
	cfg, err := c.load()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := systemd.NewLogger(level)
	for _, warning := range cfg.Warnings {
		log.Warn("configuration", "warning", warning.Error())
	}
	sockets, err := systemd.TakeSockets()
	if err != nil {
		return err
	}
	for {
		d, err := daemon.New(daemon.Options{Config: cfg, Log: log, Sockets: sockets})
		if err != nil {
			return errors.Join(err, sockets.Close())
		}
		if err = c.obey(d, log); !errors.Is(err, daemon.ErrReset) {
			return err
		}
		if sockets.Any() {
			return nil // they are closed now; the service manager starts us anew with them
		}
	}
}

// obey runs the daemon and does what signals say: HUP reads the configuration
// again, TERM and INT stop, and a second one does not wait for open tunnels.
func (c *call) obey(d *daemon.Daemon, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var ready <-chan struct{} // of the daemon, while a reload waits for it
	for {
		select {
		case err := <-ended:
			return err
		case <-ready:
			ready = nil
			c.reload(d, log)
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				ready = d.Ready()
			case ctx.Err() != nil:
				d.Hurry()
			default:
				stop()
			}
		}
	}
}

func (c *call) reload(d *daemon.Daemon, log *slog.Logger) {
	cfg, err := c.load()
	if err == nil {
		err = d.Reload(cfg)
	}
	if err != nil {
		log.Error("the configuration is not taken over, the old one stays in force", "error", err)
	}
}

func check(c *call) error {
	c.configFlags()
	if err := c.parse(0, 0); err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := daemon.CheckFiles(cfg); err != nil {
		return err
	}
	for _, warning := range cfg.Warnings {
		fmt.Fprintf(c.stderr, "warning: %v\n", warning)
	}
	_, err = fmt.Fprintf(c.stdout, "%s is right: %q with %d services\n", config.Path(c.config), cfg.Device.Name, len(cfg.Services))
	return err
}

func initialise(c *call) error {
	c.flags.StringVar(&c.config, "config", "", "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	path := config.Path(c.config)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: edit it, or remove it first", path)
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := durable.WriteFile(path, config.Example(), 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "wrote %s\nTry: keyholed check --config %s\n", path, path)
	return err
}
