package daemon

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/daemon/control"
)

// endsSoon is how long before the end of a certificate or a revocation list the status
// begins to warn: lists are made each week or month, and sometimes a person has to do
// it.
const (
	endsSoon     = 30 * 24 * time.Hour
	listEndsSoon = 2 * 24 * time.Hour
)

// status is what the owner sees.
func (c *certified) status() []control.Authority {
	clock := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []control.Authority
	for _, a := range c.set.All() {
		one := control.Authority{Name: a.Name(), State: "in force", Domains: a.Domains(), Sessions: 0}
		for h := range c.live {
			if h.person.Authority == a.Name() {
				one.Sessions++
			}
		}
		if !clock.Known {
			one.State = authority.ErrClock.Error()
		}
		if ends := a.Ends(); len(ends) > 0 {
			one.Ends, one.What = ends[0].At, ends[0].What
		}
		list = append(list, one)
	}
	return list
}

// refusals are those who came last with a certificate that holds and were not let in.
func (c *certified) refusals() []control.Refused {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.refused)
}

// warnings are what the owner should look at.
func (c *certified) warnings() []string {
	clock := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	w := slices.Clone(c.faults)
	if !clock.Known && !c.set.Empty() {
		w = append(w, "the clock is not set: nobody comes in by a certificate before it is")
	}
	for _, a := range c.set.All() {
		for _, end := range a.Ends() {
			soon := endsSoon
			if end.List {
				soon = listEndsSoon
			}
			switch left := end.At.Sub(clock.Now); {
			case !clock.Known:
			case left <= 0:
				w = append(w, fmt.Sprintf("authority %q: %s has ended on %s: nobody comes in by it", a.Name(), end.What, end.At.UTC().Format(time.DateOnly)))
			case left < soon:
				w = append(w, fmt.Sprintf("authority %q: %s ends on %s", a.Name(), end.What, end.At.UTC().Format(time.DateOnly)))
			}
		}
	}
	return w
}
