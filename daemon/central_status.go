package daemon

import (
	"fmt"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
)

// centralStatus tells what the vendor's word comes to here; nil where he has none.
func (d *Daemon) centralStatus() *control.Central {
	c := d.config().Central
	if !c.Wanted() {
		return nil
	}
	s := &control.Central{On: d.takesCentral(), Guests: []string{}}
	s.Grants = s.On && d.grants != nil
	for _, g := range d.guests.list() {
		if g.principal.Kind == acl.KindCentral {
			s.Guests = append(s.Guests, g.principal.Name)
		}
	}
	if d.list == nil {
		return s
	}
	now := d.list.now()
	s.List = &control.List{Version: now.version, Refused: now.refused}
	for _, u := range d.store.Users() {
		if u.Central {
			s.List.People++
		}
	}
	if !now.had.IsZero() {
		age := int64(time.Since(now.had).Seconds())
		s.List.Age = &age
	}
	if now.err != nil {
		s.List.Error = now.err.Error()
	}
	return s
}

// listStale is how many intervals without a list are worth a word to the owner: a
// server that is down for one of them is nothing.
const listStale = 3

// centralWarnings are what the owner should look at.
func (d *Daemon) centralWarnings() (w []string) {
	if d.list == nil || !d.takesCentral() {
		return nil
	}
	now := d.list.now()
	since := now.had
	if since.IsZero() {
		since = d.started
	}
	if now.err != nil && time.Since(since) > listStale*d.list.poll {
		w = append(w, fmt.Sprintf("the vendor's list of people was not had for %v, version %d stays in force: %v", time.Since(since).Round(time.Minute), now.version, now.err))
	}
	return w
}
