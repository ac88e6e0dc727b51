package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/keyholed/keyhole/daemon"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
)

// reset asks the running daemon for a factory reset. Where none runs, because it
// cannot start with what is on the disk for example, the order is left for its
// next start.
func reset(c *call) error {
	c.configFlags()
	everything := c.flags.Bool("erase-everything", false, "")
	recycle := c.flags.Bool("recycle", false, "")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	switch {
	case *recycle:
		return usagef("--recycle, a new key beside an empty list, is not in this version")
	case !*everything:
		return usagef("a reset erases who may enter and every setting of the owner: add --erase-everything if you mean it")
	}
	var begun api.ResetBegun
	err := c.daemon().Post(ctx, control.ResetRoute, api.Reset{Erase: api.EraseEverything}, &begun)
	var off *control.NotRunningError
	if errors.As(err, &off) {
		return c.resetLater()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "reset %d has begun: everybody is out; `keyholed status` will show 0 users\n", begun.Reset)
	return err
}

func (c *call) resetLater() error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	dir := cfg.Device.Identity
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("no daemon runs, and there is nothing to erase: %w", err)
	}
	file, err := daemon.OrderReset(cfg, "keyholed reset, while no daemon ran")
	if err != nil {
		return err
	}
	// The daemon, which is seldom root, must be able to remove the order again.
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(file, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(c.stdout, "no daemon runs: everything in %s will be erased when it starts\n", filepath.Clean(cfg.Device.State))
	return err
}
