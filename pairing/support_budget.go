package pairing

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Ledger keeps what support has spent over restarts, a few hundred bytes. A factory
// reset leaves it, so it belongs beside the device's key.
type Ledger interface {
	// Load returns what was stored last, nothing if there never was anything.
	Load() ([]byte, error)
	// Store returns when the bytes are on the disk to stay.
	Store([]byte) error
}

// A LimitError says that no support code can be had now, and when the next one can.
type LimitError struct {
	Wait time.Duration // of running time
	Err  error         // not nil: what was spent cannot be kept, so nothing may be
}

func (e *LimitError) Error() string {
	if e.Err != nil {
		return "no support code: what was used cannot be kept on disk: " + e.Err.Error()
	}
	return fmt.Sprintf("too many support codes: the next one in %d min", minutes(e.Wait))
}

func (e *LimitError) Unwrap() error { return e.Err }

// minutes rounds up.
func minutes(d time.Duration) int { return int((d + time.Minute - 1) / time.Minute) }

// A spentCode is one that was shown. Its age is of running time.
type spentCode struct {
	shown time.Time // before the start of the device for those of an earlier run
	tries int
}

// On disk it is a JSON document: the codes of the last day, oldest first.
//
//	{"codes":[{"age":5400,"tries":3},{"age":60,"tries":0}]}     age in seconds
type ledgerDocument struct {
	Codes []ledgerCode `json:"codes"`
}

type ledgerCode struct {
	Age   int64 `json:"age"`
	Tries int   `json:"tries"`
}

// maxLedgerBytes is several times what SupportCodesPerDay codes need.
const maxLedgerBytes = 4 << 10

var errLedger = errors.New("the ledger of support codes is damaged")

// A budget is what may still be shown and tried.
type budget struct {
	mu    sync.Mutex // held while the disk works; taken before no other lock
	store Ledger
	codes []spentCode // oldest first; of the last day
	kept  time.Time   // when they were stored last
	known bool        // codes is what the disk has, or more
}

// load reads the ledger if that was not possible before. A damaged one counts as a day
// that is used up: whoever could damage it must not gain by that.
func (b *budget) load(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loadLocked(now)
}

func (b *budget) loadLocked(now time.Time) error {
	if b.known {
		return nil
	}
	data, err := b.store.Load()
	if err != nil {
		return err
	}
	if b.codes, err = parseLedger(data, now); err != nil {
		b.codes = nil
		for range SupportCodesPerDay {
			b.codes = append(b.codes, spentCode{now, TriesPerSupportCode})
		}
	}
	b.known, b.kept = true, now
	return nil
}

func parseLedger(data []byte, now time.Time) ([]spentCode, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var d ledgerDocument
	if len(data) > maxLedgerBytes || json.Unmarshal(data, &d) != nil || len(d.Codes) > SupportCodesPerDay {
		return nil, errLedger
	}
	var codes []spentCode
	for _, c := range d.Codes {
		if c.Age < 0 || c.Age > int64(day/time.Second) || c.Tries < 0 || c.Tries > TriesPerSupportCode {
			return nil, errLedger
		}
		codes = append(codes, spentCode{now.Add(-time.Duration(c.Age) * time.Second), c.Tries})
	}
	return codes, nil
}

func (b *budget) storeLocked(now time.Time) error {
	d := ledgerDocument{Codes: []ledgerCode{}}
	for _, c := range b.codes {
		d.Codes = append(d.Codes, ledgerCode{int64(min(now.Sub(c.shown), day) / time.Second), c.tries})
	}
	data, err := json.Marshal(d)
	if err == nil {
		err = b.store.Store(append(data, '\n'))
	}
	if err == nil {
		b.kept = now
	}
	return err
}

// forgetLocked drops what is a day old.
func (b *budget) forgetLocked(now time.Time) {
	for len(b.codes) > 0 && now.Sub(b.codes[0].shown) >= day {
		b.codes = b.codes[1:]
	}
}

// waitLocked is how long until the next code may be shown; 0: now.
func (b *budget) waitLocked(now time.Time) time.Duration {
	b.forgetLocked(now)
	var wait time.Duration
	if n := len(b.codes); n >= SupportCodesPerDay {
		wait = b.codes[n-SupportCodesPerDay].shown.Add(day).Sub(now)
	}
	if n := len(b.codes); n >= SupportCodesPerHour {
		wait = max(wait, b.codes[n-SupportCodesPerHour].shown.Add(hour).Sub(now))
	}
	return max(wait, 0)
}

// spend counts a code, and returns when the disk has it: only then may it be shown. It
// returns a *LimitError.
func (b *budget) spend(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.loadLocked(now); err != nil {
		return &LimitError{Err: err}
	}
	if wait := b.waitLocked(now); wait > 0 {
		return &LimitError{Wait: wait}
	}
	b.codes = append(b.codes, spentCode{shown: now}) // and stays counted if it cannot be stored
	if err := b.storeLocked(now); err != nil {
		return &LimitError{Err: err}
	}
	return nil
}

// try counts a try of the code that is shown, and returns when the disk has it: only
// then may the device say anything that depends on the code.
func (b *budget) try(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.codes)
	if n == 0 || b.codes[n-1].tries >= TriesPerSupportCode {
		return ErrTries
	}
	b.codes[n-1].tries++
	return b.storeLocked(now)
}

// age keeps how old the codes are where that is due, and returns when it is due next;
// the zero time: never.
func (b *budget) age(now time.Time) (next time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.forgetLocked(now); len(b.codes) == 0 {
		return time.Time{}, nil
	}
	every := oldEvery
	if now.Sub(b.codes[len(b.codes)-1].shown) < hour {
		every = youngEvery
	}
	if now.Sub(b.kept) >= every {
		if err = b.storeLocked(now); err != nil {
			b.kept = now // tried again when it is due again
		}
	}
	return b.kept.Add(every), err
}

// wait is how long until the next code may be shown.
func (b *budget) wait(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waitLocked(now)
}
