package basestation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
)

// The nodes of a fleet share the secrets of their cookies, so that a cookie that one
// node made is good at the other to which it sends a device; and a node that
// restarts takes the cookies from before.
const (
	cookieKey = "fleet/cookies"
	// cookieCheck is how often a node looks whether a new secret is due.
	cookieCheck = time.Minute
)

// A cookieRecord is the newest secrets, sealed in the store:
//
//	0  8  slot, counted upwards; its last byte is in cookies
//	8  8  when it was made, seconds since 1970
//	16 32 secret of the slot
//	48 32 secret of the slot before
type cookieRecord struct {
	slot   uint64
	made   time.Time
	secret attach.Secret
	before attach.Secret
}

const cookieRecordSize = 8 + 8 + 2*32

func (c cookieRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.slot)
	b = binary.BigEndian.AppendUint64(b, uint64(c.made.Unix()))
	return append(append(b, c.secret[:]...), c.before[:]...)
}

func parseCookieRecord(b []byte) (c cookieRecord, err error) {
	if len(b) != cookieRecordSize {
		return c, errors.New("record of cookie secrets has a wrong length")
	}
	c.slot, c.made = binary.BigEndian.Uint64(b), time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0)
	copy(c.secret[:], b[16:])
	copy(c.before[:], b[48:])
	return c, nil
}

// due reports whether the next secret is due. A clock that was set back far makes it
// due as well: a secret is never used for longer than it should.
func (c cookieRecord) due(now time.Time) bool {
	age := now.Sub(c.made)
	return age >= attach.CookieSlot || age < -attach.CookieSlot
}

func (c cookieRecord) next(now time.Time) cookieRecord {
	return cookieRecord{c.slot + 1, now, newSecret(), c.secret}
}

// readCookies returns the secrets, which it makes or replaces where that is due. Secrets
// sealed under another key are those of another fleet; a node that is alone has lost
// its key, and makes new ones.
func readCookies(ctx context.Context, s store.Store, key registry.SealKey, alone bool) (cookieRecord, error) {
	for {
		sealed, revision, err := s.Get(ctx, cookieKey)
		missing := errors.Is(err, store.ErrNotFound)
		if err != nil && !missing {
			return cookieRecord{}, fmt.Errorf("cookie secrets: %w", err)
		}
		c := cookieRecord{secret: newSecret()}
		if !missing {
			plain, err := key.Open(cookieKey, sealed)
			if err == nil {
				c, err = parseCookieRecord(plain)
			}
			if err != nil && !(alone && errors.Is(err, registry.ErrSealed)) {
				return cookieRecord{}, fmt.Errorf("cookie secrets: %w", err)
			}
			if err == nil && !c.due(time.Now()) {
				return c, nil
			}
		}
		c = c.next(time.Now())
		if sealed, err = key.Seal(cookieKey, c.encode()); err != nil {
			return cookieRecord{}, err
		}
		if missing {
			_, err = s.Create(ctx, cookieKey, sealed)
		} else {
			_, err = s.Update(ctx, cookieKey, sealed, revision)
		}
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) {
			return cookieRecord{}, fmt.Errorf("cookie secrets: %w", err)
		}
		// Another node was faster: its secret is as good.
	}
}

// useCookies has the hub use the secrets of a record.
func (s *Server) useCookies(c cookieRecord) {
	s.post(func(time.Duration) {
		if c.slot == s.cookieSlot {
			return
		}
		if c.slot != s.cookieSlot+1 {
			s.cookies.Rotate(byte(c.slot-1), c.before)
		}
		s.cookies.Rotate(byte(c.slot), c.secret)
		s.cookieSlot = c.slot
	})
}

// keepCookies follows the secrets until ctx ends. While the store does not answer
// those it has stay good.
func (s *Server) keepCookies(ctx context.Context) error {
	tick := time.NewTicker(cookieCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c, err := readCookies(ctx, s.config.Store, s.keys.Seal(), !s.config.Fleet)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the cookie secrets were not read", "err", err)
			}
			continue
		}
		s.useCookies(c)
	}
}
