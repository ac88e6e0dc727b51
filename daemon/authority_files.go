package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
)

// floorsFile has the numbers of revocation lists that were in force, beside the
// device's key, where a factory reset leaves it: an old list must not come back.
const floorsFile = "authority.floors"

// maxFloorsBytes is far above what MaxAuthorities with 16 issuers each need.
const maxFloorsBytes = 64 << 10

// CheckFiles reads the files that the configuration names and the daemon takes at
// start and at a reload. Its errors name the configuration's lines. A daemon starts
// all the same with an authority less: its owner has to get in.
func CheckFiles(cfg *config.Config) error {
	floors, err := readFloors(cfg)
	if err != nil && !errors.Is(err, fs.ErrPermission) { // whoever checks may be somebody else than who runs
		return err
	}
	_, faults := loadAuthorities(cfg, floors)
	_, grants := vendorKeys(cfg.Central.Keys, "central.key")
	_, lists := vendorKeys(cfg.Central.ListKeys, "central.list_key")
	return errors.Join(append(faults, grants, lists)...)
}

// loadAuthorities makes what is configured; those that cannot be made are missing,
// each with an error.
func loadAuthorities(cfg *config.Config, floors authority.Floors) (*authority.Set, []error) {
	var good []*authority.Authority
	var faults []error
	for i, c := range cfg.Authorities {
		a, err := loadAuthority(c, floors)
		if err == nil {
			good = append(good, a)
			continue
		}
		key := "ca"
		var wrong *authority.FileError
		if errors.As(err, &wrong) && wrong.List {
			key = "revoked"
		}
		faults = append(faults, cfg.AuthorityError(i, key, err))
	}
	return authority.NewSet(good...), faults
}

func loadAuthority(c config.Authority, floors authority.Floors) (*authority.Authority, error) {
	o := authority.Options{Name: c.Name, Domains: c.Domains, Floors: floors}
	o, err := authority.ReadFiles(o, c.CA, c.Revoked)
	if err != nil {
		return nil, err
	}
	a, err := authority.New(o)
	var wrong *authority.FileError
	if errors.As(err, &wrong) {
		wrong.File = c.CA
		if wrong.List {
			wrong.File = c.Revoked
		}
	}
	return a, err
}

func readFloors(cfg *config.Config) (authority.Floors, error) {
	data, err := durable.ReadPrivate(filepath.Join(cfg.Device.Identity, floorsFile), maxFloorsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var floors authority.Floors
	if err == nil {
		err = json.Unmarshal(data, &floors)
	}
	if err != nil {
		return nil, fmt.Errorf("numbers of revocation lists: %w", err)
	}
	return floors, nil
}

// openAuthorities takes the authorities of the configuration into force at start.
func (d *Daemon) openAuthorities(opened *closers) {
	c := newCertified(d.log.With("room", "authority"))
	c.clock, c.enter, c.ending = d.clock, d.guests.enter, d.guests.dismiss
	c.given = d.ownersWord
	d.certified = c
	opened.add(c.close)
	floors, err := readFloors(d.config())
	if err != nil { // without it nothing else is worse than before
		d.log.Error("an older revocation list may come into force again", "error", err)
	}
	set, faults := loadAuthorities(d.config(), floors)
	d.takeAuthorities(set, d.config(), faults)
}

// reloadAuthorities prepares what a reload takes over. Nothing has changed before
// take is called; a file that is wrong refuses the reload as a whole, and what was
// read before stays in force.
func (d *Daemon) reloadAuthorities(next *config.Config) (take func(), err error) {
	floors, err := readFloors(d.config())
	if err != nil {
		d.log.Error("an older revocation list may come into force again", "error", err)
	}
	set, faults := loadAuthorities(next, floors)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return func() { d.takeAuthorities(set, next, nil) }, nil
}

// takeAuthorities puts a set into force. When it returns, nobody is here by
// another any more.
func (d *Daemon) takeAuthorities(set *authority.Set, cfg *config.Config, faults []error) {
	c := d.certified
	c.mu.Lock()
	c.set, c.config, c.faults = set, cfg.Authorities, nil
	for _, err := range faults {
		c.faults = append(c.faults, err.Error())
		d.log.Error("an authority is not in force", "error", err)
	}
	clear(c.reminded)
	c.refused = nil
	c.mu.Unlock()
	c.recheck()
	for _, warning := range c.warnings()[len(faults):] {
		d.log.Warn("certificates", "warning", warning)
	}
	if err := d.raiseFloors(set); err != nil {
		d.log.Error("the numbers of the revocation lists are not kept: an older one may come into force again", "error", err)
	}
}

func (d *Daemon) raiseFloors(set *authority.Set) error {
	cfg := d.config()
	floors, err := readFloors(cfg)
	if err != nil {
		return err
	}
	floors, raised := floors.Raise(set.All()...)
	if !raised {
		return nil
	}
	data, err := json.Marshal(floors)
	if err != nil {
		return err
	}
	if len(data) > maxFloorsBytes/2 { // after years of other authorities; those of now are enough
		floors, _ = authority.Floors(nil).Raise(set.All()...)
		if data, err = json.Marshal(floors); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(cfg.Device.Identity, floorsFile), append(data, '\n'), 0o600)
}

// ownersWord is what the owner has said about a certified user.
func (d *Daemon) ownersWord(id string, key identity.Fingerprint) word {
	return word{role: d.store.Appointed(id), blocked: d.store.IsBlocked(acl.Principal{Kind: acl.KindAuthority, Name: id, Fingerprint: key})}
}
