package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/api"
)

// settingsName is the file of the owner's settings, in the state directory: a
// factory reset erases them.
const settingsName = "settings.json"

// maxSettingsBytes is far above all that can be set.
const maxSettingsBytes = 4 << 10

// owned are the owner's settings as they stand in their file. The zero value is how
// a device begins.
type owned struct {
	RefuseCentral bool `json:"refuse_central,omitempty"` // nothing that the vendor signs counts
}

// A settingsFile keeps the owner's settings.
type settingsFile struct {
	path string

	mu  sync.Mutex
	now owned
}

// openSettings reads the owner's settings. Where they cannot be read the owner may
// have refused anything, and so everything counts as refused until he sets it anew.
func (d *Daemon) openSettings() {
	f := &settingsFile{path: filepath.Join(d.config().Device.State, settingsName)}
	d.settings = f
	data, err := durable.ReadPrivate(f.path, maxSettingsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, &f.now)
	}
	if err != nil {
		f.now = owned{RefuseCentral: true}
		d.log.Error("the owner's settings cannot be read: what could be refused is refused", "file", f.path, "error", err)
	}
}

func (f *settingsFile) read() owned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// change writes what edit makes of the settings; on an error they are as they were.
func (f *settingsFile) change(edit func(*owned)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.now
	edit(&next)
	if next == f.now {
		return nil
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(f.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the owner's settings: %w", err)
	}
	f.now = next
	return nil
}

func (d *Daemon) getSettings(w http.ResponseWriter, _ *http.Request, _ caller) error {
	api.WriteJSON(w, d.apiSettings())
	return nil
}

func (d *Daemon) apiSettings() api.Settings {
	c := d.config().Central
	return api.Settings{Central: api.Central{On: d.takesCentral(), Fixed: !c.Wanted() || !c.OwnerMayRefuse}}
}

func (d *Daemon) patchSettings(w http.ResponseWriter, r *http.Request, c caller) error {
	var patch api.SettingsPatch
	if err := decode(w, r, &patch); err != nil {
		return err
	}
	if err := d.set(patch, c.by(), func() error { return d.stillMay(c, acl.ActionSettings) }); err != nil {
		return err
	}
	api.WriteJSON(w, d.apiSettings())
	return nil
}

// set changes settings in the name of somebody who may. When it returns, nobody is
// here any more whom a refusal puts out.
func (d *Daemon) set(patch api.SettingsPatch, by acl.By, may func() error) error {
	if patch.Central == nil {
		return api.Problemf(api.CodeMalformed, "there is nothing to set: give central")
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := may(); err != nil {
		return err
	}
	return d.setCentral(*patch.Central, by)
}

// setCentral takes or refuses what the vendor signs. A refusal is in force before it
// is written, and stays so if it cannot be.
func (d *Daemon) setCentral(on bool, by acl.By) error {
	c := d.config().Central
	switch {
	case !c.Wanted():
		return api.Problemf(api.CodeConflict, "this device takes no word of its vendor: there is nothing to switch")
	case !c.OwnerMayRefuse:
		return api.Problemf(api.CodeConflict, "the device's configuration does not let its owner refuse what the vendor signs (central.owner_may_refuse)")
	}
	if !on {
		d.grants.switchOff(true)
		d.dismissCentral()
	}
	err := d.settings.change(func(o *owned) { o.RefuseCentral = !on })
	if err == nil && !on {
		err = d.dropListLocked("refused by the owner", by)
	}
	if err != nil {
		d.log.Error("settings", "error", err)
		return api.Problemf(api.CodeUnavailable, "the device cannot store the change now")
	}
	d.list.kick()
	d.grants.switchOff(!on)
	word := "the vendor's word counts"
	if !on {
		word = "the vendor's word is refused"
	}
	d.record(acl.Event{What: acl.WhatSettings, By: by, Detail: word})
	d.log.Info("settings", "central", on, "by", by.User)
	return nil
}

// dismissCentral puts out everybody who is here by a grant of the vendor.
func (d *Daemon) dismissCentral() {
	if n := d.guests.dismiss(func(p acl.Principal) bool { return p.Kind == acl.KindCentral }); n > 0 {
		d.log.Info("put out who was here by a grant of the vendor", "guests", n)
	}
}

// takesCentral reports whether what the vendor signs counts: it is configured, and
// the owner has not refused it, or could not.
func (d *Daemon) takesCentral() bool {
	c := d.config().Central
	return c.Wanted() && (!c.OwnerMayRefuse || !d.settings.read().RefuseCentral)
}
