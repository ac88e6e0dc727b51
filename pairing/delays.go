package pairing

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Failures keep who has failed with a secret that outlives a window, over
// restarts. A factory reset does not clear them, since it leaves the secret as it is.
type Failures interface {
	// Load returns what was stored last, nil if there never was anything.
	Load() ([]Failure, error)
	// Store returns when the list is on the disk to stay.
	Store(list []Failure) error
}

// A Failure is how often a source has failed since it last succeeded: at least once.
type Failure struct {
	Source netip.Prefix // an IPv4 /32 or an IPv6 /64; the zero value is a source like any other
	Times  int
}

// delays make each source wait after FreeFailures. Time is the monotonic clock; a
// restart begins each wait anew, since nobody knows how long it was off.
type delays struct {
	store Failures // nil: nothing is kept

	mu     sync.Mutex // held while the disk works; taken before no other lock but view
	broken bool       // the file cannot be read: nobody may try
	known  map[netip.Prefix]*delay

	view sync.RWMutex // held with mu to write known and broken, for a moment; ready reads with it alone
}

type delay struct {
	times int
	until time.Time
	last  time.Time // of its last failure
}

// waitAfter is how long a source waits after so many failures.
func waitAfter(times int) time.Duration {
	if times < FreeFailures {
		return 0
	}
	wait := FirstDelay
	for range times - FreeFailures {
		if wait *= 2; wait >= MostDelay {
			return MostDelay
		}
	}
	return wait
}

func (d *delays) load() error {
	d.known = map[netip.Prefix]*delay{}
	if d.store == nil {
		return nil
	}
	list, err := d.store.Load()
	if err == nil && len(list) > MaxDelaySources {
		err = errors.New("more sources than there can be")
	}
	if err != nil {
		d.broken = true
		return err
	}
	now := time.Now()
	for _, f := range list {
		d.known[f.Source] = &delay{times: f.Times, until: now.Add(waitAfter(f.Times)), last: now}
	}
	return nil
}

// ready tells whether a source may try now. It never waits for the disk.
func (d *delays) ready(source netip.Prefix) bool {
	d.view.RLock()
	defer d.view.RUnlock()
	k := d.known[source]
	return !d.broken && (k == nil || !time.Now().Before(k.until))
}

// charge counts a failure of a source and returns when the disk has it. One that
// could not be written counts in memory all the same.
func (d *delays) charge(source netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.Lock()
	now := time.Now()
	k := d.known[source]
	if k == nil {
		d.makeRoomLocked()
		k = &delay{}
		d.known[source] = k
	}
	k.times++
	k.last, k.until = now, now.Add(waitAfter(k.times))
	d.view.Unlock()
	return d.keepLocked()
}

// makeRoomLocked forgets the source that has failed least, of those the oldest.
func (d *delays) makeRoomLocked() {
	if len(d.known) < MaxDelaySources {
		return
	}
	var least netip.Prefix
	var found *delay
	for source, k := range d.known {
		if found == nil || k.times < found.times || k.times == found.times && k.last.Before(found.last) {
			least, found = source, k
		}
	}
	delete(d.known, least)
}

// forgive forgets a source that has proven the secret.
func (d *delays) forgive(source netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.Lock()
	delete(d.known, source)
	d.view.Unlock()
	return d.keepLocked()
}

// clear forgets all, and makes a file whole that could not be read.
func (d *delays) clear() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.Lock()
	clear(d.known)
	d.view.Unlock()
	if err := d.keepLocked(); err != nil {
		return err
	}
	d.view.Lock()
	d.broken = false
	d.view.Unlock()
	return nil
}

func (d *delays) keepLocked() error {
	if d.store == nil {
		return nil
	}
	list := make([]Failure, 0, len(d.known))
	for source, k := range d.known {
		list = append(list, Failure{source, k.times})
	}
	return d.store.Store(list)
}
