package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// firstWait is how long a stored password rests after the service refused
	// it; each further refusal doubles it up to lastWait. Cameras lock an account
	// after five to seven wrong passwords within half an hour: this tries at 0,
	// 2, 6, 14 and 30 minutes.
	firstWait = 2 * time.Minute
	lastWait  = time.Hour
	// maxForbidden is how many 403 in a row, before anything else was answered,
	// count as a wrong password. One may be a page that the account may not see;
	// some cameras answer nothing else to a password they do not know.
	maxForbidden = 3
	// maxDoubts is how many 401 in a row a password that has proven right may get
	// before it counts as wrong. One may be a page that the account may not see:
	// Apache and many cameras answer so instead of 403, and one viewer who opens it
	// must not close the service for all. Below what cameras lock an account after.
	maxDoubts = 3
	// tryTime is how long others wait while one connection finds out whether the
	// password is right.
	tryTime = 10 * time.Second
)

// A Refusal says that a service does not take the device's password. Its text
// is for the client as well.
type Refusal struct {
	Why  error         // what the service wanted or said
	Wait time.Duration // until the device tries again; 0: it does so at the next request
}

func (r *Refusal) Error() string {
	if r.Wait <= 0 {
		return r.Why.Error()
	}
	return fmt.Sprintf("%v; the device tries again in %v, or at once after a reload", r.Why, r.Wait.Round(time.Second))
}

func (r *Refusal) Unwrap() error { return r.Why }

// Reasons of a Refusal beside those of choose.
var (
	// ErrWrongPassword: a fresh challenge was answered, and the service said no.
	ErrWrongPassword = errors.New("the service refuses the user name and password that the device keeps for it")
	// ErrForbidden: it answered 403 to requests that carried the password.
	ErrForbidden = errors.New("the service forbids this to the account that the device keeps for it")
	// errDoubt: a password that has proven right was refused for one request.
	errDoubt = errors.New("the service refuses this to the account that the device keeps for it, or takes its password no longer")
	errBusy  = errors.New("the device is finding out whether its password for the service is right")
)

// A Vault keeps one service's password and what all connections to the service
// together know: the challenge it gave last, whether the password has proven
// right, and when it may be tried again. Its methods may be called from any
// goroutine.
//
//	unproven --accepted--> proven --refused three times--> resting --time--> unproven
//	   └------refused-----------------------------------------^
//
// While unproven, one connection tries at a time, so that a browser with six
// connections does not use up the tries that a camera allows.
type Vault struct {
	who     Credentials
	refused func(*Refusal) // told of each wrong password; never nil

	mu        sync.Mutex
	web       *answers // to the last challenge over HTTP; nil: none yet
	proven    bool
	forbidden int // 403 in a row while unproven
	doubts    int // 401 in a row while proven
	refusals  int // in a row
	until     time.Time
	why       error
	trying    chan struct{} // closed when the one who tries is done; nil: nobody
}

// NewVault keeps credentials for one service. refused is called each time the
// service has refused them and they rest; it must not block. It may be nil.
func NewVault(c Credentials, refused func(*Refusal)) *Vault {
	if refused == nil {
		refused = func(*Refusal) {}
	}
	return &Vault{who: c, refused: refused}
}

// Refusal returns why the password is not tried now, or nil when it is.
func (v *Vault) Refusal() *Refusal {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.restingLocked()
}

func (v *Vault) restingLocked() *Refusal {
	if wait := time.Until(v.until); wait > 0 {
		return &Refusal{v.why, wait}
	}
	return nil
}

// try waits for leave to use the password. With mine the caller is the one who
// finds out whether it is right, and must call accept, refuse or leave.
func (v *Vault) try(ctx context.Context) (mine bool, _ *Refusal) {
	var late <-chan time.Time
	for {
		v.mu.Lock()
		trying := v.trying
		if r := v.restingLocked(); r != nil || v.proven {
			v.mu.Unlock()
			return false, r
		}
		if trying == nil {
			v.trying = make(chan struct{})
			v.mu.Unlock()
			return true, nil
		}
		v.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(tryTime)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-trying:
		case <-ctx.Done():
			return false, &Refusal{Why: errBusy}
		case <-late:
			return false, &Refusal{Why: errBusy}
		}
	}
}

// leave is the end of a try that found out nothing.
func (v *Vault) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leaveLocked()
}

func (v *Vault) leaveLocked() {
	if v.trying != nil {
		close(v.trying)
		v.trying = nil
	}
}

// accept notes that the service took the password.
func (v *Vault) accept(mine bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proven, v.refusals, v.forbidden, v.doubts = true, 0, 0, 0
	if mine {
		v.leaveLocked()
	}
}

// refuse notes that the service did not take it, and lets it rest, where that is
// no doubt about one request.
func (v *Vault) refuse(mine bool, why error) *Refusal {
	r, news := v.rest(mine, why)
	if news {
		v.refused(r)
	}
	return r
}

// rest is refuse without telling anybody. It is no news where another
// connection's try, sent before this one was answered, has said it.
func (v *Vault) rest(mine bool, why error) (r *Refusal, news bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if mine {
		v.leaveLocked()
	}
	if r := v.restingLocked(); r != nil {
		return r, false
	}
	if v.doubts++; v.proven && v.doubts < maxDoubts {
		return &Refusal{Why: errDoubt}, false
	}
	wait := min(firstWait<<min(v.refusals, 16), lastWait)
	v.proven, v.forbidden, v.doubts, v.web = false, 0, 0, nil
	v.refusals++
	v.until, v.why = time.Now().Add(wait), why
	return &Refusal{why, wait}, true
}

// forbid notes a 403 to a request that carried the password. It returns nil
// where that says nothing about the password, because it has proven right.
func (v *Vault) forbid(mine bool) *Refusal {
	v.mu.Lock()
	if v.proven {
		v.mu.Unlock()
		return nil
	}
	v.forbidden++
	often := v.forbidden >= maxForbidden
	if !often && mine {
		v.leaveLocked()
	}
	v.mu.Unlock()
	if often {
		return v.refuse(mine, ErrForbidden)
	}
	return &Refusal{Why: ErrForbidden}
}

// knows says whether some connection has met a challenge over HTTP. With lasting
// it must be one whose answer cannot be out of date.
func (v *Vault) knows(lasting bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.web != nil && (!lasting || v.web.basic())
}

// known answers the challenge that some connection met before. The zero
// authorization is none.
func (v *Vault) known(method, uri string) authorization {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.web == nil {
		return authorization{}
	}
	return v.web.authorize(method, uri)
}

// reveals says whether a field of an answer has the authorization or the
// password in it. Passwords of fewer bytes than shortSecret stand in too many
// fields by chance.
func (v *Vault) reveals(value []byte, mark string) bool {
	password := v.who.Password.reveal()
	return mark != "" && bytes.Contains(value, []byte(mark)) ||
		len(password) >= shortSecret && bytes.Contains(value, []byte(password))
}

const shortSecret = 6

// learn takes a challenge for all connections over HTTP and answers it.
func (v *Vault) learn(o offer, method, uri string) authorization {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.web = newAnswers(o, v.who)
	a := v.web.authorize(method, uri)
	a.fresh = true
	return a
}

// next takes the nonce that the service wants to see next.
func (v *Vault) next(nonce string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.web != nil && !v.web.basic() && v.web.nonce() != nonce {
		v.web.renew(nonce)
	}
}

// authorization is what one request carries, and what an answer of 401 to it
// will mean.
type authorization struct {
	value string // of the field; "": none
	mark  string // the part that must never come back
	nonce string // that was answered; "" for Basic
	fresh bool   // the answer to a challenge for this very request
}

func (a *answers) authorize(method, uri string) authorization {
	value, mark := a.to(method, uri)
	return authorization{value: value, mark: mark, nonce: a.nonce()}
}

// wrong says whether a 401 with offer o means that the password is wrong. It is
// not where the challenge was out of date, whether the service says so (stale)
// or only gives another nonce.
func (a authorization) wrong(o offer) bool {
	switch {
	case a.value == "":
		return false
	case a.fresh:
		return !o.stale
	case a.nonce == "":
		return o.rank == 0 // Basic then and now
	}
	return !o.stale && o.of("nonce") == a.nonce
}
