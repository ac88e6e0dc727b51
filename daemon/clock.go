package daemon

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/acl"
)

// timesyncStamp is there once systemd-timesyncd has set the clock since boot
// (systemd-timesyncd.service(8)).
const timesyncStamp = "/run/systemd/timesync/synchronized"

// clock tells the time and whether to believe it: that of the kernel where an NTP
// client has set it, else the one that the basestation told since this start, else
// nobody's. It does not go back within a run, and one before the floor is nobody's.
func (d *Daemon) clock() acl.Clock {
	now, known := (*d.kernel.Load())()
	c := acl.Clock{Now: now, Known: known}
	c.Boot, c.Up = kernelRun()
	if known {
		c.Now = d.steady.see(now)
	} else if told, ok := d.station.toldTime(); ok {
		c.Now, c.Known = told, true
		if seen, ok := d.steady.since(); ok && told.Before(seen) {
			c.Now = seen
		}
	}
	if floor := d.floor.Load(); floor > 0 {
		c.Floor = time.Unix(floor, 0)
		c.Known = c.Known && !c.Now.Before(c.Floor)
	}
	return c
}

// systemClock is the kernel's time and whether an NTP client has set it.
func systemClock() (time.Time, bool) {
	return time.Now(), synchronized(unix.Adjtimex, timesyncStamp)
}

func (d *Daemon) setKernelClock(f func() (now time.Time, known bool)) { d.kernel.Store(&f) }

// toldTime is the time as the basestation told it, if there is one and it did.
func (s *station) toldTime() (time.Time, bool) {
	if s == nil {
		return time.Time{}, false
	}
	return s.clock.now()
}

// floorEvery is how far the time floor may lag behind: each step is written to
// flash.
const floorEvery = time.Hour

// raiseFloor keeps that it is not earlier than now. Only a clock that the owner's
// own system vouches for does that, and only a time that has held: a floor never
// sinks, and a basestation that told a year too many, or a slip of an hour, would
// end every grant for good.
func (d *Daemon) raiseFloor() {
	now, known := (*d.kernel.Load())()
	if !known {
		return
	}
	d.steady.see(now)
	seen, _ := d.steady.since()
	if seen.Unix() < d.floor.Load()+int64(floorEvery/time.Second) {
		return
	}
	_ = d.memory.change(func(st *stationState) bool { // the status tells of it
		st.Time = max(st.Time, seen.Unix())
		return true
	})
	d.floor.Store(seen.Unix())
}

// followClock is the task that raises the floor.
func (d *Daemon) followClock(ctx context.Context, ready func()) error {
	hourly := time.NewTicker(floorEvery)
	defer hourly.Stop()
	ready()
	for {
		d.raiseFloor()
		select {
		case <-ctx.Done():
			return nil
		case <-hourly.C:
		}
	}
}

// toldClock is the time as the basestation told it. Zero: it did not.
type toldClock struct {
	mu   sync.Mutex
	unix int64     // seconds, told …
	at   time.Time // … at this instant of the monotonic clock
}

// told takes a time, unless it is before the floor or before what was told
// earlier: within one start time does not go back.
func (c *toldClock) told(unix uint64, floor int64) {
	const end = 253402300800 // the year 10000; nothing later can be written down
	if unix >= end || int64(unix) < floor {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unix != 0 && int64(unix) < c.nowLocked().Unix() {
		return
	}
	c.unix, c.at = int64(unix), time.Now()
}

func (c *toldClock) now() (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unix == 0 {
		return t, false
	}
	return c.nowLocked(), true
}

func (c *toldClock) nowLocked() time.Time { return time.Unix(c.unix, 0).Add(time.Since(c.at)) }

// synchronized asks the kernel whether an NTP client has set the clock since boot
// (adjtimex(2): TIME_ERROR means that it is not synchronised). In the sandbox of
// our unit, whose ProtectClock= and ~@clock forbid the call that could also set
// it, the stamp tells; another NTP client than systemd's is not seen there.
func synchronized(ask func(*unix.Timex) (int, error), stamp string) bool {
	var t unix.Timex
	state, err := ask(&t)
	if err != nil {
		_, err = os.Stat(stamp)
		return err == nil
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// bootFile is where the kernel tells the id of its present run (random(4)).
const bootFile = "/proc/sys/kernel/random/boot_id"

// bootID is that id, "" where it cannot be read.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile(bootFile)
	if id := strings.TrimSpace(string(b)); err == nil && len(id) == 36 {
		return id
	}
	return ""
})

// kernelRun names this run of the kernel and says for how long it has run, sleep
// included (clock_gettime(2): CLOCK_BOOTTIME); "" where that cannot be known.
func kernelRun() (id string, up time.Duration) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return "", 0
	}
	return bootID(), time.Duration(t.Nano())
}
