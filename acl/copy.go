package acl

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyholed/keyhole/internal/durable"
)

// A copy is one bbolt file with the whole list. Bucket "users" has a sealed user, or
// a sealed Block, for each id (8 bytes, big-endian), bucket "head" one sealed value
// that says which of both there are at which sequence: one that is missing, older,
// or too many is noticed like one that is altered.
type storeCopy struct {
	path   string
	sealer *sealer
	db     *bbolt.DB // nil while the file is not usable
	// checked is called after each commit; tests put a consistency check here.
	checked func(*bbolt.DB) error
}

var (
	bucketHead  = []byte("head")
	bucketUsers = []byte("users")
	keyList     = []byte("list")
)

const asideSuffix = ".new"

// head is the plain text of the one value in bucket "head".
type head struct {
	Users  int    `json:"users"`
	NextID uint64 `json:"next"`
	Digest []byte `json:"digest"`           // SHA-256 over id 8, sequence 8 of each user, by id
	Blocks []byte `json:"blocks,omitempty"` // the same of each block; nil without any
	// Invites is SHA-256 over name 16, sequence 8 of each invite, by name; nil without any.
	Invites []byte  `json:"invites,omitempty"`
	Log     witness `json:"log,omitzero"`
}

func headOf(l *list) head {
	h := head{Users: len(l.users), NextID: l.nextID, Log: l.seen}
	h.Digest = digest(l.ids(), func(id uint64) uint64 { return l.users[id].sequence })
	if ids := l.blocks.ids(); len(ids) > 0 {
		h.Blocks = digest(ids, func(id uint64) uint64 { return l.blocks.byID[id].sequence })
	}
	h.Invites = l.digestInvites()
	return h
}

func digest(ids []uint64, sequence func(id uint64) uint64) []byte {
	sum := sha256.New()
	var b [16]byte
	for _, id := range ids {
		binary.BigEndian.PutUint64(b[:], id)
		binary.BigEndian.PutUint64(b[8:], sequence(id))
		_, _ = sum.Write(b[:]) // never fails
	}
	return sum.Sum(nil)
}

// options of a copy: the page size is fixed because a kernel with 16 KiB pages
// would otherwise write four times as much; without a free list on disk a
// commit writes a page less, and a small file is scanned quickly.
func (c *storeCopy) options(readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout:         2 * time.Second,
		PageSize:        pageBytes,
		FreelistType:    bbolt.FreelistMapType,
		NoFreelistSync:  true,
		NoStatistics:    true,
		InitialMmapSize: maxImageBytes,
		MaxSize:         maxImageBytes,
		ReadOnly:        readOnly,
	}
}

// guard turns a panic of bbolt and a memory fault in its mapping into an error.
func guard(do func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errImage, r)
		}
	}()
	return do()
}

// load opens the file and reads the list out of it. On an error the copy stays
// closed; a missing file is fs.ErrNotExist.
func (c *storeCopy) load(readOnly bool) (*list, error) {
	if err := vetFile(c.path); err != nil {
		return nil, err
	}
	var l *list
	var db *bbolt.DB
	err := guard(func() (err error) {
		if db, err = bbolt.Open(c.path, 0o600, c.options(readOnly)); err != nil {
			return err
		}
		return db.View(func(tx *bbolt.Tx) error {
			if err := check(tx); err != nil {
				return err
			}
			l, err = c.read(tx)
			return err
		})
	})
	if err != nil {
		if db != nil && !errors.Is(err, errImage) {
			err = errors.Join(err, db.Close()) // after a panic bbolt's locks may be held: leave it
		}
		return nil, err
	}
	c.db = db
	return l, nil
}

// check is bbolt's own consistency check.
func check(tx *bbolt.Tx) error {
	var first error
	for err := range tx.Check() { // to its end, so that its goroutine ends
		if first == nil {
			first = err
		}
	}
	return first
}

func (c *storeCopy) read(tx *bbolt.Tx) (*list, error) {
	heads, users := tx.Bucket(bucketHead), tx.Bucket(bucketUsers)
	if heads == nil || users == nil {
		return nil, fmt.Errorf("%w: a bucket is missing", errSealed)
	}
	at, plain, err := c.sealer.open(string(bucketHead), string(keyList), heads.Get(keyList))
	if err != nil {
		return nil, err
	}
	var want head
	if err := json.Unmarshal(plain, &want); err != nil {
		return nil, err
	}
	l := emptyList(at.Epoch)
	l.Sequence = at.Sequence
	err = users.ForEach(func(key, value []byte) error {
		written, plain, err := c.sealer.open(string(bucketUsers), string(key), value)
		if err != nil {
			return err
		}
		if written.Epoch != at.Epoch || len(key) != 8 {
			return errSealed
		}
		return l.addPlain(binary.BigEndian.Uint64(key), written.Sequence, plain)
	})
	if err != nil {
		return nil, err
	}
	if err := c.readInvites(tx, l); err != nil {
		return nil, err
	}
	l.nextID, l.seen = max(l.nextID, want.NextID), want.Log
	got := headOf(l)
	if got.Users != want.Users || string(got.Digest) != string(want.Digest) || string(got.Blocks) != string(want.Blocks) || string(got.Invites) != string(want.Invites) {
		return nil, fmt.Errorf("%w: %d users where there were %d", errSealed, got.Users, want.Users)
	}
	return l, nil
}

// commit writes what changed on the way to l, and syncs.
func (c *storeCopy) commit(l *list, what change) error {
	if c.db == nil {
		return c.rebuild(l)
	}
	err := guard(func() error {
		return c.db.Update(func(tx *bbolt.Tx) error {
			users := tx.Bucket(bucketUsers)
			if users == nil || tx.Bucket(bucketHead) == nil {
				return errImage
			}
			for _, id := range what.deleted() {
				if err := users.Delete(userKey(id)); err != nil {
					return err
				}
			}
			if what.block != nil {
				if err := c.putBlock(users, what.block.ID, l); err != nil {
					return err
				}
			}
			if what.batch != nil {
				for _, u := range what.batch.Put {
					if err := c.putUser(users, l.users[u.ID], l.Epoch); err != nil {
						return err
					}
				}
			}
			if what.put != nil {
				if err := c.putUser(users, l.users[what.put.ID], l.Epoch); err != nil {
					return err
				}
			}
			if err := c.commitInvites(tx, l, what); err != nil {
				return err
			}
			return c.putHead(tx.Bucket(bucketHead), l)
		})
	})
	if err == nil && c.checked != nil {
		err = c.checked(c.db)
	}
	return err
}

func userKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func (c *storeCopy) putUser(users *bbolt.Bucket, u entryOf, epoch uint64) error {
	plain, err := json.Marshal(u.User)
	if err != nil {
		return err
	}
	key := userKey(u.ID)
	sealed, err := c.sealer.seal(string(bucketUsers), string(key), position{epoch, u.sequence}, plain)
	if err != nil {
		return err
	}
	return users.Put(key, sealed)
}

func (c *storeCopy) putHead(b *bbolt.Bucket, l *list) error {
	plain, err := json.Marshal(headOf(l))
	if err != nil {
		return err
	}
	sealed, err := c.sealer.seal(string(bucketHead), string(keyList), l.position, plain)
	if err != nil {
		return err
	}
	return b.Put(keyList, sealed)
}

// rebuild makes the file anew from l: aside, synced, renamed, the directory
// synced. bbolt's very first write is not safe in place.
func (c *storeCopy) rebuild(l *list) error {
	c.abandon(nil)
	aside := c.path + asideSuffix
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(aside, 0o600, c.options(false))
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(aside)))
	}
	err = db.Update(func(tx *bbolt.Tx) error { return c.fill(tx, l) })
	if err == nil {
		err = os.Rename(aside, c.path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(c.path))
	}
	if err != nil {
		return errors.Join(err, db.Close(), ignoreMissing(os.Remove(aside)))
	}
	c.db = db // the open file is the renamed one
	return nil
}

func (c *storeCopy) fill(tx *bbolt.Tx, l *list) error {
	heads, err := tx.CreateBucket(bucketHead)
	if err != nil {
		return err
	}
	users, err := tx.CreateBucket(bucketUsers)
	if err != nil {
		return err
	}
	for _, id := range l.ids() {
		if err := c.putUser(users, l.users[id], l.Epoch); err != nil {
			return err
		}
	}
	for _, id := range l.blocks.ids() {
		if err := c.putBlock(users, id, l); err != nil {
			return err
		}
	}
	for _, name := range l.inviteNames() {
		if err := c.putInvite(tx, l.invites[name], l.Epoch); err != nil {
			return err
		}
	}
	return c.putHead(heads, l)
}

// setAside keeps a file that cannot be used for whoever wants to look at it, one
// of each copy. Its values are sealed.
func (c *storeCopy) setAside() error {
	c.abandon(nil)
	return ignoreMissing(os.Rename(c.path, c.path+".bad"))
}

// abandon lets go of the open file, if any. After a panic (errImage) bbolt may
// still hold its own locks, and Close would wait for them: the mapping stays.
func (c *storeCopy) abandon(why error) {
	if c.db != nil && !errors.Is(why, errImage) {
		_ = guard(c.db.Close) // nothing is unsaved: every commit is synced
	}
	c.db = nil
}

func (c *storeCopy) close() error {
	if c.db == nil {
		return nil
	}
	err := guard(c.db.Close)
	c.db = nil
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
