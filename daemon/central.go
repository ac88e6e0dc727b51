package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/central"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Why a grant of the vendor does not count here. They are for the log.
var (
	errNoGrant      = errors.New("no grant of the vendor")
	errGrantsOff    = errors.New("the owner has switched off what the vendor says")
	errOtherDevice  = errors.New("the grant is for another device")
	errOtherClient  = errors.New("the grant is for another client")
	errOtherAttach  = errors.New("the grant is for another attach of this device: one from before, or a replay")
	errGrantUsed    = errors.New("the grant was used before")
	errGrantLate    = errors.New("the grant is over")
	errGrantClock   = errors.New("clock not set")
	errGrantRoles   = errors.New("none of the grant's roles is the vendor's to give")
	errGrantBlocked = errors.New("refused by the owner")
	errManyGrants   = errors.New("too many grants in one attach")
)

// maxGrants of one attach are remembered by their jti, so that none counts twice;
// more are refused. An attach lasts up to a day, a grant of 64 guests an hour, so
// that 1,536 are what an honest vendor can need.
const maxGrants = 4096

// A grantDesk looks at grants that the vendor signs and the basestation carries.
// A nil desk takes none, which is the default.
//
//	webhook --signs--> basestation --carries--> device: for me? for him? for this
//	                                            attach? new? in time? a role I may
//	                                            take? not refused by the owner?
//
// The basestation can withhold a grant and pass it on late, within the attach that
// it is for; it can make none, change none and use none twice.
type grantDesk struct {
	keys   central.Keys
	roles  []string // that the vendor may give; never owner
	device identity.ID
	attach func() (hash [32]byte, ok bool) // of the present attach
	clock  func() acl.Clock

	mu     sync.Mutex
	of     [32]byte // the attach that used is about
	used   map[string]bool
	refuse bool // the owner's word
}

func newGrantDesk(keys central.Keys, roles []string, device identity.ID, attach func() ([32]byte, bool), clock func() acl.Clock) *grantDesk {
	return &grantDesk{keys: keys, roles: roles, device: device, attach: attach, clock: clock, used: map[string]bool{}}
}

// look says what a grant would make of a client now, and changes nothing.
func (g *grantDesk) look(token []byte, client identity.Fingerprint) (central.Grant, error) {
	if g == nil || len(token) == 0 {
		return central.Grant{}, errNoGrant
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lookLocked(token, client)
}

func (g *grantDesk) lookLocked(token []byte, client identity.Fingerprint) (central.Grant, error) {
	if g.refuse {
		return central.Grant{}, errGrantsOff
	}
	grant, err := g.keys.ReadGrant(token)
	if err != nil {
		return central.Grant{}, err
	}
	attach, attached := g.attach()
	if attached && attach != g.of {
		g.of, g.used = attach, map[string]bool{} // none of before is for this one
	}
	clock := g.clock()
	switch {
	case grant.Device != g.device:
		return central.Grant{}, errOtherDevice
	case grant.Client != client:
		return central.Grant{}, errOtherClient
	case !attached || grant.Attach != attach:
		return central.Grant{}, errOtherAttach
	case g.used[grant.ID]:
		return central.Grant{}, errGrantUsed
	case !clock.Floor.Before(grant.Expires):
		return central.Grant{}, errGrantLate
	case !clock.Known:
		return central.Grant{}, errGrantClock
	case !clock.Now.Before(grant.Expires):
		return central.Grant{}, errGrantLate
	case len(g.used) >= maxGrants:
		return central.Grant{}, errManyGrants
	}
	if grant.Roles = allowedRoles(grant.Roles, g.roles); len(grant.Roles) == 0 {
		return central.Grant{}, errGrantRoles
	}
	return grant, nil
}

// use is look, and the grant is used then.
func (g *grantDesk) use(token []byte, client identity.Fingerprint) (central.Grant, error) {
	if g == nil || len(token) == 0 {
		return central.Grant{}, errNoGrant
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	grant, err := g.lookLocked(token, client)
	if err == nil {
		g.used[grant.ID] = true
	}
	return grant, err
}

// allowedRoles are those of wanted that may be given.
func allowedRoles(wanted, may []string) (out []string) {
	for _, r := range wanted {
		if r != acl.RoleOwner && slices.Contains(may, r) {
			out = append(out, r)
		}
	}
	return out
}

// switchOff takes the owner's word on all grants.
func (g *grantDesk) switchOff(off bool) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = off
}

// off reports whether the owner has switched grants off.
func (g *grantDesk) off() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refuse
}

// centralCheck lets those ask whose introduction carries a grant of the vendor.
var centralCheck = askCheck{name: "central", may: (*Daemon).mayAskByGrant, admit: (*Daemon).enterByGrant}

// mayAskByGrant looks at the grant of an introduction whose signature has not been
// looked at.
func (d *Daemon) mayAskByGrant(in *attach.Introduction, peer identity.Fingerprint) (why string, ok bool) {
	grant, err := d.grants.look(in.Grant, peer)
	if err == nil {
		err = d.refusedByOwner(guestOfVendor(grant, peer))
	}
	if err != nil {
		if !errors.Is(err, errNoGrant) {
			d.station.complaints.say("a grant of the vendor does not count", "peer", peer.Short(), "error", err)
		}
		return "", false
	}
	return "granted to " + grant.Subject, true
}

// enterByGrant makes a guest of who brings a grant: until its life is over, counted
// from now on the monotonic clock.
func (d *Daemon) enterByGrant(in *attach.Introduction, peer identity.Fingerprint) error {
	began := time.Now()
	grant, err := d.grants.use(in.Grant, peer)
	if err != nil {
		return err
	}
	principal := guestOfVendor(grant, peer)
	leave, err := d.guests.enter(guest{principal: principal, fingerprint: peer, until: began.Add(grant.Life), info: "grant " + grant.ID})
	if err != nil {
		return err
	}
	if err := d.refusedByOwner(principal); err != nil {
		leave() // the owner's word came meanwhile, too early to find him here
		return err
	}
	d.log.Info("the vendor lets somebody in", "user", principal.String(), "peer", peer.Short(), "roles", grant.Roles, "for", grant.Life, "grant", grant.ID)
	return nil
}

// refusedByOwner says that the owner has put out who a grant is for, his name or his
// key, or has switched all grants off.
func (d *Daemon) refusedByOwner(p acl.Principal) error {
	switch {
	case d.grants.off():
		return errGrantsOff
	case d.store.IsBlocked(p):
		return errGrantBlocked
	}
	return nil
}

func guestOfVendor(grant central.Grant, peer identity.Fingerprint) acl.Principal {
	return acl.Principal{Kind: acl.KindCentral, Fingerprint: peer, Name: grant.Subject, Roles: grant.Roles}
}

// openGrants reads the keys of the vendor. Without a basestation nobody could bring
// a grant.
func (d *Daemon) openGrants() error {
	c := d.config().Central
	if !c.Grants() || d.station == nil {
		return nil
	}
	keys, err := vendorKeys(c.Keys, "central.key")
	if err != nil {
		return err
	}
	d.grants = newGrantDesk(keys, c.Roles, d.key.ID(), d.station.link.Hash, d.clock)
	d.grants.switchOff(!d.takesCentral())
	return nil
}

// maxKeyFileBytes is above a PEM file with a comment.
const maxKeyFileBytes = 8 << 10

// vendorKeys reads keys as the configuration has them: base64, or the name of a PEM
// file.
func vendorKeys(texts []string, setting string) (central.Keys, error) {
	var keys central.Keys
	for _, text := range texts {
		name := text
		if config.IsKeyFile(text) {
			data, err := readPublic(text, maxKeyFileBytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", setting, err)
			}
			text = string(data)
		}
		key, err := central.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %.60s: %w", setting, name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readPublic reads a small file that is no secret.
func readPublic(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return data, err
}
