package session

import (
	"crypto/rand"
	"crypto/tls"
	"sync"
	"time"
)

// ticketLife is how long one key seals resumption tickets; the one before it
// still opens them. Short, because a stolen ticket key would also open what
// the resumed sessions' first flights say about their keys; long enough that a
// client that comes back within the hour resumes.
const ticketLife = time.Hour

// tickets seals resumption state. It stands outside the tls.Config that uses
// it because libraries clone those, and a clone would not see a change of key.
//
// A ticket saves the cost of a handshake and nothing else: who the peer is and
// whether it is known is looked at anew on every connection.
type tickets struct {
	sealing tls.Config // only EncryptTicket, DecryptTicket and SetSessionTicketKeys are used

	mu   sync.Mutex
	keys [][32]byte // the first seals, all open
	made time.Time
}

func newTickets() *tickets {
	t := &tickets{}
	t.forget()
	return t
}

// use makes config seal its tickets here.
func (t *tickets) use(config *tls.Config) {
	config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		t.renew(time.Now())
		return t.sealing.EncryptTicket(state, session)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		t.renew(time.Now())
		return t.sealing.DecryptTicket(ticket, state)
	}
}

// forget makes every ticket handed out so far worthless.
func (t *tickets) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = nil
	t.addLocked(time.Now())
}

func (t *tickets) renew(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.made) < ticketLife {
		return
	}
	if now.Sub(t.made) >= 2*ticketLife {
		t.keys = nil // nobody asked for that long: the key is past its time too
	}
	t.addLocked(now)
}

func (t *tickets) addLocked(now time.Time) {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	t.keys = append([][32]byte{key}, t.keys...)
	if len(t.keys) > 2 {
		t.keys = t.keys[:2]
	}
	t.made = now
	t.sealing.SetSessionTicketKeys(t.keys)
}
