package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyholed/keyhole/daemon/config"
)

// The key by which QUIC clients notice a restart is kept beside the identity.
func TestResetKeyOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	keyOf := func() *Daemon {
		t.Helper()
		d := &Daemon{log: slog.New(slog.DiscardHandler)}
		cfg := new(config.Config)
		cfg.Device.Identity = dir
		d.cfg.Store(cfg)
		if err := d.openIdentity(); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, second := keyOf(), keyOf()
	if first.reset != second.reset || first.reset == [32]byte{} {
		t.Error("the key is another one after a restart")
	}
	info, err := os.Stat(filepath.Join(dir, "quic.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("quic.key: %v, %v", info, err)
	}
}
