package acl

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"go.etcd.io/bbolt"
)

// bucketInvites is there once there was an invite.
var bucketInvites = []byte("invites")

// digestInvites is part of the head of a copy.
func (l *list) digestInvites() []byte {
	if len(l.invites) == 0 {
		return nil
	}
	sum := sha256.New()
	for _, name := range l.inviteNames() {
		_, _ = sum.Write(binary.BigEndian.AppendUint64([]byte(name), l.invites[name].sequence)) // never fails
	}
	return sum.Sum(nil)
}

// Invites lie in a bucket of their own in each copy, sealed like users, by name.

func (c *storeCopy) readInvites(tx *bbolt.Tx, l *list) error {
	b := tx.Bucket(bucketInvites)
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, value []byte) error {
		written, plain, err := c.sealer.open(string(bucketInvites), string(key), value)
		if err != nil {
			return err
		}
		i := new(Invite)
		if err := json.Unmarshal(plain, i); err != nil {
			return err
		}
		if written.Epoch != l.Epoch || string(key) != i.Name {
			return errSealed
		}
		return l.addInvite(i, written.Sequence)
	})
}

// commitInvites writes the one that was made, and removes those that are not in
// the list any more, for whatever reason.
func (c *storeCopy) commitInvites(tx *bbolt.Tx, l *list, what change) error {
	if b := tx.Bucket(bucketInvites); b != nil {
		var gone [][]byte // bbolt wants no change while it walks
		err := b.ForEach(func(key, _ []byte) error {
			if l.invites[string(key)].Invite == nil {
				gone = append(gone, append([]byte(nil), key...))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, key := range gone {
			if err := b.Delete(key); err != nil {
				return err
			}
		}
	}
	if what.invite == nil {
		return nil
	}
	return c.putInvite(tx, l.invites[what.invite.Name], l.Epoch)
}

func (c *storeCopy) putInvite(tx *bbolt.Tx, i entryOfInvite, epoch uint64) error {
	b, err := tx.CreateBucketIfNotExists(bucketInvites)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(i.Invite)
	if err != nil {
		return err
	}
	sealed, err := c.sealer.seal(string(bucketInvites), i.Name, position{epoch, i.sequence}, plain)
	if err != nil {
		return err
	}
	return b.Put([]byte(i.Name), sealed)
}
