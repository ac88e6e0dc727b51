package acl

import (
	"encoding/json"

	"go.etcd.io/bbolt"
)

// blockMark is before a Block in the bucket of the users, where a user begins with a
// brace. Who is revoked leaves his block in his place, so that it costs no page more.
const blockMark = 'b'

// addPlain adds what was sealed under an id.
func (l *list) addPlain(id, sequence uint64, plain []byte) error {
	if len(plain) > 0 && plain[0] == blockMark {
		b := new(Block)
		if err := json.Unmarshal(plain[1:], b); err != nil {
			return err
		}
		if b.ID != id || len(l.blocks.byID) >= maxBlockedUsers+maxBlockedNames {
			return errSealed
		}
		return l.blocks.add(b, sequence)
	}
	u := new(User)
	if err := json.Unmarshal(plain, u); err != nil {
		return err
	}
	if u.ID != id || len(l.users) >= MaxUsers {
		return errSealed
	}
	return l.add(u, sequence)
}

// deleted are the ids of which nothing stays in a copy.
func (c *change) deleted() []uint64 {
	out := c.unblock
	if c.gone != 0 && (c.block == nil || c.block.ID != c.gone) {
		out = append(out[:len(out):len(out)], c.gone)
	}
	if c.batch != nil {
		out = append(out[:len(out):len(out)], c.batch.Gone...)
	}
	return out
}

func (c *storeCopy) putBlock(users *bbolt.Bucket, id uint64, l *list) error {
	b := l.blocks.byID[id]
	plain, err := json.Marshal(b.Block)
	if err != nil {
		return err
	}
	key := userKey(id)
	sealed, err := c.sealer.seal(string(bucketUsers), string(key), position{l.Epoch, b.sequence}, append([]byte{blockMark}, plain...))
	if err != nil {
		return err
	}
	return users.Put(key, sealed)
}
