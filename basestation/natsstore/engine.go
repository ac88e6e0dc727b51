package natsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// engine is the embedded NATS server and the directory that it has for itself.
//
//	DIR/lock      locked while a process uses the directory
//	DIR/laid      there once both streams are; how they were closed (see whole.go)
//	DIR/jetstream NATS's own files
type engine struct {
	dir    string
	lock   *os.File
	server *server.Server
	log    *serverLog
	before mark // what the last run left
}

// Figures of the embedded server.
const (
	startTimeout = 30 * time.Second // a million records take half a second
	stopTimeout  = 10 * time.Second
	// engineMemory bounds consumers that NATS keeps in memory, not its caches.
	engineMemory = 256 << 20
	// engineStore is no bound: NATS would take three quarters of what is free at
	// each start, and find itself above it when the disk has filled meanwhile.
	engineStore = 1 << 50
)

func startEngine(ctx context.Context, dir string, log *slog.Logger) (*engine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	e := &engine{dir: dir, lock: lock, log: &serverLog{log: log}}
	e.before, err = e.readMark()
	if err == nil {
		err = e.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", dir, err), e.stop())
	}
	return e, nil
}

func (e *engine) start(ctx context.Context) error {
	if err := e.distrustIndices(); err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "keyhole-basestation",
		DontListen: true, // nothing: clients come over a pipe in this process
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   e.dir,
		SyncAlways: true, // an acknowledged write is on the disk

		DisableJetStreamBanner: true,
		JetStreamMaxMemory:     engineMemory,
		JetStreamMaxStore:      engineStore,
	})
	if err != nil {
		return err
	}
	e.server = s
	s.SetLoggerV2(e.log, false, false, false)
	go s.Start()
	wait := startTimeout
	if end, limited := ctx.Deadline(); limited {
		wait = min(wait, time.Until(end))
	}
	if !s.ReadyForConnections(wait) {
		return errors.New("nats does not start; its log says why")
	}
	if !s.JetStreamEnabled() {
		return errors.New("nats has no storage; its log says why")
	}
	return nil
}

// open makes one more handle onto the embedded server.
func (e *engine) open(ctx context.Context, c Config) (*Store, error) {
	conn, err := nats.Connect("", append(c.common(), nats.InProcessServer(e.server), nats.NoReconnect())...)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	c.Replicas = 1
	s, err := c.open(ctx, conn, e)
	if err != nil {
		closeConnection(conn)
	}
	return s, err
}

// stop ends the server and frees the directory.
func (e *engine) stop() error {
	var err error
	if e.server != nil {
		e.server.Shutdown()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			e.server.WaitForShutdown()
		}()
		select {
		case <-ended:
		case <-time.After(stopTimeout):
			err = fmt.Errorf("nats did not stop within %v", stopTimeout)
		}
	}
	return errors.Join(err, e.lock.Close())
}

// lockDirectory takes the directory for this process; the kernel frees it when
// the process ends, however it does.
func lockDirectory(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("store %s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}
