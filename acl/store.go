package acl

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Options of a Store. StateDir, IdentityDir and Key are needed.
type Options struct {
	StateDir    string        // what a reset erases; made if missing
	IdentityDir string        // where store.key is; made if missing
	Key         *identity.Key // the device's: signs the audit log
	Roles       []Role        // the vendor's, besides the built-in ones
	Clock       func() Clock  // nil: the system's time, not known to be right
	Log         *slog.Logger  // nil: silent
}

// A Store is the access list of one device, open. It may be used by several
// goroutines.
type Store struct {
	roles atomic.Pointer[map[string]*role] // replaced by SetRoles
	clock func() Clock
	log   *slog.Logger

	current atomic.Pointer[list] // replaced under mu, read by everybody

	onRevoke atomic.Pointer[func([]identity.Fingerprint)]
	onBlock  atomic.Pointer[func(Kind, string)]
	onChange atomic.Pointer[func()]
	onEntry  atomic.Pointer[func(Entry)]

	mu       sync.Mutex // one change at a time; guards the rest
	copies   [2]*storeCopy
	audit    *auditLog
	ballast  ballast
	flood    flood
	lock     int   // descriptor of StateDir with a lock on it
	readOnly error // why nothing can be changed, nil when it can
	closed   bool
}

// Names in the directories.
var copyNames = [2]string{"access.a.db", "access.b.db"}

const (
	auditName    = "audit"
	ballastName  = "ballast"
	storeKeyName = "store.key"
)

// Open opens the list, or makes an empty one where there has never been any. A
// damaged copy is rebuilt from the other one and from the audit log. It is
// ErrInUse while another process has it open, and ErrLost when nothing that is
// left can say who may enter: then it never starts with an empty list, because
// the next stranger would be its owner. On a read-only state directory it opens
// for reading, and changes are ErrReadOnly.
func Open(o Options) (*Store, error) {
	roles, err := compileRoles(o.Roles)
	if err != nil {
		return nil, err
	}
	s := &Store{clock: o.Clock, log: o.Log, lock: -1}
	s.roles.Store(&roles)
	if s.clock == nil {
		s.clock = func() Clock { return Clock{Now: time.Now()} }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{o.StateDir, o.IdentityDir} {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("access list: %w", err)
		}
	}
	if s.lock, err = lockDir(o.StateDir); err != nil {
		return nil, err
	}
	s.readOnly = writable(o.StateDir)
	s.ballast = ballast{path: filepath.Join(o.StateDir, ballastName)}
	if err := s.recover(o); err != nil {
		return nil, errors.Join(err, s.release())
	}
	if s.readOnly == nil {
		s.keepBallast()
	} else {
		s.log.Warn("access list opened for reading only", "error", s.readOnly)
	}
	l := s.current.Load()
	s.log.Debug("access list open", "at", l.position.String(), "users", len(l.users))
	return s, nil
}

// lockDir takes the lock of a state directory: on the directory itself, so that
// no file is needed and a read-only one can be locked too.
func lockDir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("access list %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = unix.Close(fd) // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return -1, fmt.Errorf("%s: %w: is keyholed running already?", dir, ErrInUse)
		}
		return -1, fmt.Errorf("lock %s: %w", dir, err)
	}
	return fd, nil
}

// writable says why dir cannot be written, or nil.
func writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK); errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// Close writes what is not written, and lets go of the files. Later changes are
// ErrClosed; decisions keep being made from memory.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.rememberEnd()
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.audit != nil {
		errs = append(errs, s.audit.close())
	}
	for _, c := range s.copies {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	if s.lock >= 0 {
		errs = append(errs, unix.Close(s.lock)) // last: it is the lock
		s.lock = -1
	}
	return errors.Join(errs...)
}

// Decide answers whether p may do action on service now. It reads memory only.
func (s *Store) Decide(p Principal, action Action, service Service) Decision {
	return s.current.Load().decide(*s.roles.Load(), s.clock, p, action, service)
}

// Known reports whether a key is in the list, without saying what it may do.
func (s *Store) Known(f identity.Fingerprint) bool {
	return s.current.Load().byKey[f] != nil
}

// Empty reports whether nobody was paired, whoever the vendor lists: the next to pair becomes owner.
func (s *Store) Empty() bool { return s.current.Load().local() == 0 }

// Users returns everybody, in the order in which they came.
func (s *Store) Users() []User {
	l := s.current.Load()
	all := make([]User, 0, len(l.users))
	for _, id := range l.ids() {
		all = append(all, *l.users[id].clone())
	}
	return all
}

// User returns the user with that name, or with the key that this is the
// fingerprint or the unique beginning (8 digits or more) of. It is ErrNoUser or
// ErrAmbiguous otherwise.
func (s *Store) User(who string) (User, error) {
	u, _, err := s.current.Load().find(who)
	if err != nil {
		return User{}, err
	}
	return *u.clone(), nil
}

// UserOf returns the user who has the key.
func (s *Store) UserOf(f identity.Fingerprint) (User, bool) {
	u := s.current.Load().byKey[f]
	if u == nil {
		return User{}, false
	}
	return *u.clone(), true
}

// OnRevoke sets what is told the keys whose permission a change took away or made
// smaller, before the change returns. It is called without locks held.
func (s *Store) OnRevoke(f func([]identity.Fingerprint)) { s.onRevoke.Store(&f) }

// OnChange sets what is told that the list is another one. It must not block;
// it may be called from several goroutines.
func (s *Store) OnChange(f func()) { s.onChange.Store(&f) }

// OnEntry sets what is told every line that a change or Record has written, after
// it is in force. It is called without locks held, possibly from several
// goroutines, so that two lines may come in another order; it must not block.
func (s *Store) OnEntry(f func(Entry)) { s.onEntry.Store(&f) }

func (s *Store) tellEntry(e *Entry) {
	if f := s.onEntry.Load(); f != nil {
		(*f)(*e)
	}
}

// Position is the epoch of the list, which a reset raises, and the number of
// changes in it.
func (s *Store) Position() (epoch, sequence uint64) {
	l := s.current.Load()
	return l.Epoch, l.Sequence
}
