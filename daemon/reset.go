package daemon

import (
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// ErrReset is returned by Run when a factory reset was begun: everything is
// closed, and a new Daemon with the same Options erases before it opens anything.
var ErrReset = errors.New("factory reset")

// beginReset puts the order on disk. From here on nobody is let in, whatever
// happens to the power; what is open is cut, except for who must hear the answer.
// endReset then ends Run. May is asked once nobody else changes anything.
func (d *Daemon) beginReset(cause string, may func() error, keep ...uint64) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := may(); err != nil {
		return err
	}
	if err := d.store.BeginReset(d.config().Device.Identity, cause); err != nil {
		return err
	}
	d.log.Warn("factory reset", "cause", cause)
	d.window.Close()
	d.support.hang(pairing.SupportClosed)
	d.server.CloseSessions(func(s session.Info) bool { return len(keep) == 0 || s.Number != keep[0] })
	return nil
}

func (d *Daemon) resetByOwner(w http.ResponseWriter, r *http.Request, c caller) error {
	info := c.session.Info()
	may := func() error { return d.stillMay(c, acl.ActionReset) }
	return d.answerReset(w, r, "session of "+c.user.Name, may, info.Number)
}

func (d *Daemon) localReset(w http.ResponseWriter, r *http.Request) error {
	return d.answerReset(w, r, "control socket, "+localUser(r), atTheDevice)
}

// atTheDevice is the right of who holds it in his hands, or is root on it.
func atTheDevice() error { return nil }

func (d *Daemon) answerReset(w http.ResponseWriter, r *http.Request, cause string, may func() error, keep ...uint64) error {
	var order api.Reset
	if err := decode(w, r, &order); err != nil {
		return err
	}
	if order.Erase != api.EraseEverything {
		return api.Problemf(api.CodeMalformed, "the field \"erase\" must be %q", api.EraseEverything)
	}
	epoch, _ := d.store.Position()
	err := d.beginReset(cause, may, keep...)
	var refused *api.Problem
	switch {
	case errors.As(err, &refused):
		return refused
	case err != nil:
		d.log.Error("factory reset", "error", err)
		return api.Problemf(api.CodeUnavailable, "nothing was erased: the device cannot write the order to its disk")
	}
	api.WriteJSON(w, api.ResetBegun{Reset: epoch})
	d.endReset()
	return nil
}

// OrderReset leaves the order for a factory reset to the next start of a daemon
// with this configuration, and returns the file that holds it.
func OrderReset(cfg *config.Config, cause string) (file string, err error) {
	return acl.BeginReset(cfg.Device.Identity, cause)
}
