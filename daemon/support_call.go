package daemon

import (
	"errors"
	"sync"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A numberState says how far a call number is.
type numberState int

const (
	numberNone    numberState = iota // there is no basestation: whoever helps must be in this network
	numberAsked                      // the basestation has not answered, or is not there
	numberRefused                    // it gives none: too many were asked for
	numberGiven
)

// A callShown is what the display says of the call number.
type callShown struct {
	state  numberState
	number string // of numberGiven: six digits
}

// calling keeps the call number of the code that is shown.
type calling struct {
	d *Daemon

	mu      sync.Mutex
	wanted  bool
	request uint64 // of the code that is shown; an answer to an older one is nothing
	shownAs callShown
}

// shown is what the display says.
func (c *calling) shown() callShown {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shownAs
}

// follow asks for a number when a code appears, and gives it back when it goes.
func (c *calling) follow() {
	c.mu.Lock()
	wanted := c.d.support.Waits() // under mu, so that the newest state is applied last
	was, over := c.wanted, c.shownAs.number
	if c.wanted = wanted; wanted == was {
		c.mu.Unlock()
		return
	}
	c.request++
	c.shownAs = callShown{}
	if wanted && c.d.station != nil {
		c.shownAs.state = numberAsked
	}
	c.mu.Unlock()
	if over != "" {
		c.send(attach.Call{Over: over}) // if that is lost it is over by itself
	}
	c.ask()
}

// ask asks for the number that is missing: also each time the device has attached.
func (c *calling) ask() {
	c.mu.Lock()
	missing, request := c.shownAs.state == numberAsked, c.request
	c.mu.Unlock()
	if missing {
		c.send(attach.Call{Request: request})
	}
}

func (c *calling) send(m attach.Call) {
	if c.d.station == nil {
		return
	}
	if err := c.d.station.link.Send(attach.KindCall, m); err != nil && !errors.Is(err, attach.ErrSilent) {
		c.d.log.Warn("the basestation was not asked for a call number", "error", err)
	}
}

// told takes the basestation's answer.
func (c *calling) told(m attach.CallNumber) {
	c.mu.Lock()
	mine := c.wanted && m.Request == c.request && c.shownAs.state == numberAsked
	if mine {
		c.shownAs = callShown{numberGiven, m.Number}
		if m.Number == "" {
			c.shownAs.state = numberRefused
		}
	}
	c.mu.Unlock()
	switch {
	case mine:
		c.d.panel.refresh()
	case m.Number != "":
		c.send(attach.Call{Over: m.Number}) // nobody sees it
	}
}

// supportAsk takes introductions of who was read the call number, while a code waits. The
// number is no secret before the basestation, and one in a million for others who know
// the id.
var supportAsk = askCheck{
	name:   "support",
	glance: (*Daemon).knowsCallNumber,
	may: func(d *Daemon, in *attach.Introduction, peer identity.Fingerprint) (why string, ok bool) {
		return "knows the call number", d.knowsCallNumber(in, peer)
	},
}

func (d *Daemon) knowsCallNumber(in *attach.Introduction, peer identity.Fingerprint) bool {
	if d.support == nil || !d.support.Waits() {
		return false
	}
	shown := d.support.call.shown()
	return shown.state == numberGiven && pairing.CheckSupportPass(in.Introduce.Pass, shown.number, d.key.ID(), peer)
}
