// Package gate keeps out whom the operator of a basestation names in files: keys,
// addresses, countries. It is asked about each introduction before anybody else
// is, and works without a webhook; what takes a directory or a thought is for that.
//
// The files are read at the start and again when they change, so that a list can
// be replaced while the basestation runs. One that cannot be read at the start
// keeps the basestation from starting, one that cannot be read later leaves the
// last good one in force: no accident opens the gate. Being asked costs two map
// lookups and a binary search.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// lookEvery is how soon a changed file counts: nobody waits for it, and looking is
// two system calls.
const lookEvery = 5 * time.Second

// A Config names the files. An empty name is none.
type Config struct {
	Deny      string       // who is kept out
	Countries string       // which addresses are where
	Log       *slog.Logger // nil: silent
}

// A Gate knows who is kept out. The zero value is not ready; use Open.
type Gate struct {
	log     *slog.Logger
	deny    file[*denied]
	where   file[*countries]
	reading sync.Mutex // one look at a time
}

// A file is one file with what was last read from it.
type file[T any] struct {
	path  string
	most  int64
	parse func([]byte) (T, error)
	now   atomic.Pointer[T]
	seen  stamp // of what now is, or of what could not be read; guarded by Gate.reading
}

// A stamp tells whether a file is another one than before.
type stamp struct {
	size     int64
	modified time.Time
	missing  bool
}

// Open reads the files.
func Open(c Config) (*Gate, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{log: c.Log}
	g.deny = file[*denied]{path: c.Deny, most: maxDenyBytes, parse: parseDenied}
	g.where = file[*countries]{path: c.Countries, most: maxCountryBytes, parse: parseCountries}
	if _, err := g.deny.look(); err != nil {
		return nil, fmt.Errorf("who is kept out: %w", err)
	}
	if _, err := g.where.look(); err != nil {
		return nil, fmt.Errorf("country file: %w", err)
	}
	if d := g.denied(); len(d.country) > 0 && c.Countries == "" {
		return nil, fmt.Errorf("who is kept out: %s names countries, and there is no country file", c.Deny)
	}
	return g, nil
}

// Refuses says why a client at an address may not be introduced to a device, "" when
// nothing is known against it.
func (g *Gate) Refuses(client identity.Fingerprint, device identity.ID, source netip.Addr) string {
	d := g.denied()
	source = source.Unmap().WithZone("")
	switch {
	case d.client[client]:
		return "key"
	case d.device[device]:
		return "device"
	case d.address.has(source):
		return "address"
	case len(d.country) > 0 && d.country[g.country(source)]:
		return "country"
	}
	return ""
}

// Country says where an address is, as two capital letters; "" is unknown, as is
// every address without a country file.
func (g *Gate) Country(source netip.Addr) string {
	if c := g.country(source.Unmap().WithZone("")); c != unknownCountry {
		return c.String()
	}
	return ""
}

func (g *Gate) denied() *denied {
	if d := g.deny.now.Load(); d != nil {
		return *d
	}
	return &denied{}
}

func (g *Gate) country(source netip.Addr) country {
	if c := g.where.now.Load(); c != nil {
		return (*c).of(source)
	}
	return unknownCountry
}

// Run looks at the files until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.look()
		}
	}
}

// look reads what has changed.
func (g *Gate) look() {
	g.reading.Lock()
	defer g.reading.Unlock()
	g.tell(g.deny.path)(g.deny.look())
	g.tell(g.where.path)(g.where.look())
}

func (g *Gate) tell(path string) func(changed bool, err error) {
	return func(changed bool, err error) {
		switch {
		case err != nil:
			g.log.Error("a file of who is kept out cannot be read: the last good one counts", "file", path, "err", err)
		case changed:
			g.log.Info("who is kept out is read anew", "file", path)
		}
	}
}

// look reads the file if it is not as it was. An error is told once for each state
// of the file.
func (f *file[T]) look() (changed bool, err error) {
	if f.path == "" {
		return false, nil
	}
	data, now, err := f.read()
	if errors.Is(err, errSame) {
		return false, nil
	}
	f.seen = now
	if err != nil {
		return false, err
	}
	read, err := f.parse(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.now.Store(&read)
	return true, nil
}

var errSame = errors.New("not changed")

func (f *file[T]) read() ([]byte, stamp, error) {
	opened, err := os.Open(f.path)
	if err != nil {
		if f.seen.missing {
			return nil, f.seen, errSame
		}
		return nil, stamp{missing: true}, err
	}
	defer func() { _ = opened.Close() }() // only read
	info, err := opened.Stat()
	if err != nil {
		return nil, f.seen, err
	}
	now := stamp{size: info.Size(), modified: info.ModTime()}
	switch {
	case now == f.seen:
		return nil, now, errSame
	case !info.Mode().IsRegular():
		return nil, now, fmt.Errorf("%s is no regular file", f.path)
	case now.size > f.most:
		return nil, now, fmt.Errorf("%s has %d bytes, at most %d are allowed", f.path, now.size, f.most)
	}
	data, err := io.ReadAll(io.LimitReader(opened, f.most))
	if err == nil && int64(len(data)) != now.size {
		err = fmt.Errorf("%s is being written", f.path)
		now = stamp{} // look again
	}
	return data, now, err
}
