package daemon

import (
	"context"
	"fmt"
	"image"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
)

// noticeDuration is how long the display tells what just happened.
const noticeDuration = 6 * time.Second

// A scene is everything the front panel may tell, as plain values. Drawing it
// is a pure function of it.
type scene struct {
	device  string // name of the device
	id      string
	users   int
	resets  uint64   // factory resets so far
	away    bool     // reachable from beyond the local network
	others  []string // who is connected and not the owner
	pairing pairing.State
	support pairing.SupportState
	call    callShown // of a support code
	gesture hal.Event // a half done one, or zero
	notice  []string  // what just happened: one big line, then small ones

	oneButton bool
	watching  []string // who has a tunnel to a camera open
}

// picture draws the scene. What asks for an action comes first, then what just
// happened, then the state at rest.
func (s scene) picture() *hal.Picture {
	p := s.page()
	text := s.banner()
	if len(s.others) > 0 && text == "" {
		text = s.others[0] + " is connected"
		if n := len(s.others); n > 1 {
			text = fmt.Sprintf("%s and %d more", s.others[0], n-1)
		}
	}
	if text != "" && s.pairing.Asking == nil && s.pairing.Code.IsZero() && s.support.Code.IsZero() && s.support.Control != pairing.ControlAsked {
		// SECURITY: a banner stands while anyone but the owner is connected.
		p.Fill(image.Rect(0, 0, hal.Width, bannerHeight), false)
		p.Centre(0, 1, text)
		p.Invert(image.Rect(0, 0, hal.Width, bannerHeight))
	}
	return p
}

const bannerHeight = 13

func (s scene) page() *hal.Picture {
	switch {
	case s.gesture.Kind == hal.Holding && s.gesture.Left > 0:
		return countdown("Keep holding", s.gesture.Left, hal.ConfirmHold)
	case s.gesture.Kind == hal.Armed:
		return hal.Page(hal.Line{Text: "Release,"}, hal.Line{Text: "then press"}, hal.Line{Text: "to go on"})
	case s.gesture.Kind == hal.Waiting:
		return countdown("Press to go on", s.gesture.Left, hal.ConfirmWithin)
	case s.pairing.Asking != nil && s.pairing.Asking.Check != "":
		a := s.pairing.Asking
		who := a.User
		if who == "" {
			who = a.Name
		}
		return hal.Page(hal.Line{Text: who + " asks"},
			hal.Line{Text: a.Check.Grouped(), Scale: 2}, hal.Line{Text: "Same? Press PAIR"})
	case s.supportPage() != nil:
		return s.supportPage()
	case !s.pairing.Code.IsZero():
		left := time.Duration(s.pairing.SecondsLeft) * time.Second
		return codePage(s.id, s.pairing.Code, left)
	case len(s.notice) > 0:
		return hal.Page(lines(s.notice)...)
	case s.pairing.Open:
		left := time.Duration(s.pairing.SecondsLeft) * time.Second
		p := hal.Page(hal.Line{Text: "Pairing is open"}, hal.Line{Text: clock(left), Scale: 2}, hal.Line{})
		p.Bar(image.Rect(4, 52, hal.Width-4, 62), int(left.Milliseconds()), int(pairing.WindowDuration.Milliseconds()))
		return p
	case s.users == 0 && s.resets > 0:
		// The proof for the next owner.
		return hal.Page(hal.Line{Text: s.device}, hal.Line{Text: fmt.Sprintf("RESET %d", s.resets), Scale: 2}, hal.Line{Text: "0 users"}, hal.Line{Text: "Press PAIR to own"})
	case s.users == 0:
		return hal.Page(hal.Line{Text: s.device}, hal.Line{Text: "New", Scale: 2}, hal.Line{Text: "Press PAIR to own"}, hal.Line{Text: s.id[:13]})
	}
	if len(s.watching) > 0 {
		return hal.Page(hal.Line{Text: s.device}, hal.Line{Text: "Live", Scale: 2}, hal.Line{Text: watchingLine(s.watching)}, hal.Line{Text: s.id[:13]})
	}
	state := "Ready"
	people := plural(s.users, "user")
	if s.away {
		people += ", online"
	}
	return hal.Page(hal.Line{Text: s.device}, hal.Line{Text: state, Scale: 2}, hal.Line{Text: people}, hal.Line{Text: s.id[:13]})
}

// watchingLine is "2 watching: Alice, Bob", and where that is too long for the
// display as many names as fit, never without the number.
func watchingLine(names []string) string {
	head := fmt.Sprintf("%d watching: ", len(names))
	text := head + strings.Join(names, ", ")
	if len([]rune(text)) <= hal.LineWidth(1) {
		return text
	}
	room := hal.LineWidth(1) - len(head)
	line := []rune(strings.Join(names, ", "))
	return head + string(line[:max(0, room-2)]) + ".."
}

func lines(texts []string) []hal.Line {
	out := make([]hal.Line, len(texts))
	for i, t := range texts {
		out[i] = hal.Line{Text: t}
		if i == 0 && len(t) <= hal.LineWidth(2) {
			out[i].Scale = 2
		}
	}
	return out
}

func countdown(text string, left, whole time.Duration) *hal.Picture {
	p := hal.Page(hal.Line{Text: text}, hal.Line{Text: fmt.Sprint(int(left.Seconds())), Scale: 2}, hal.Line{})
	p.Bar(image.Rect(4, 52, hal.Width-4, 62), int((whole - left).Milliseconds()), int(whole.Milliseconds()))
	return p
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// light is the pattern that goes with the scene: fast when a person must
// decide, slow while strangers may ask, on while somebody watches.
func (s scene) light() hal.Pattern {
	switch {
	case s.pairing.Asking != nil, s.support.Control == pairing.ControlAsked, s.gesture.Kind == hal.Armed, s.gesture.Kind == hal.Waiting:
		return hal.FastBlink
	case s.pairing.Open, s.support.Phase == pairing.SupportWaiting:
		return hal.SlowBlink
	case len(s.watching) > 0:
		return hal.On
	}
	return hal.Off
}

// panel is the task that keeps display and light true. It draws when something
// changed, and once a second only while a countdown is to be seen.
type panel struct {
	board *hal.Board
	look  func() scene // what is true now, without gesture and notice
	log   *slog.Logger
	kick  chan struct{} // holds one token: something changed
	ready chan struct{}

	mu          sync.Mutex
	gesture     hal.Event
	notice      []string
	noticeUntil time.Time
}

func newPanel(board *hal.Board, look func() scene, log *slog.Logger) *panel {
	return &panel{board: board, look: look, log: log, kick: make(chan struct{}, 1), ready: make(chan struct{})}
}

func (p *panel) String() string         { return "front panel" }
func (p *panel) Ready() <-chan struct{} { return p.ready }

// refresh says that something changed. It never blocks.
func (p *panel) refresh() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// tell shows what just happened for a while: the first line large.
func (p *panel) tell(lines ...string) {
	p.mu.Lock()
	p.notice, p.noticeUntil = lines, time.Now().Add(noticeDuration)
	p.mu.Unlock()
	p.refresh()
}

// progress shows a half done gesture; a zero event ends that.
func (p *panel) progress(ev hal.Event) {
	p.mu.Lock()
	p.gesture = ev
	p.mu.Unlock()
	p.refresh()
}

// current is the scene with what only the panel knows.
func (p *panel) current() scene {
	s := p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.gesture = p.gesture
	if time.Now().Before(p.noticeUntil) {
		s.notice = p.notice
	}
	return s
}

func (p *panel) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	close(p.ready)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		case <-timer.C:
		}
		s := p.current()
		p.show(s)
		if s.notice != nil || s.pairing.Open || s.support.Phase != pairing.SupportIdle {
			timer.Reset(time.Second)
		}
	}
}

// show logs what fails and goes on: a broken lamp is no reason to lock out the owner.
func (p *panel) show(s scene) {
	if d := p.board.Display; d != nil {
		if err := d.Show(s.picture()); err != nil {
			p.log.Warn("display does not show", "error", err)
		}
	}
	if l := p.board.Light; l != nil {
		if err := l.Set(s.light()); err != nil {
			p.log.Warn("light does not switch", "error", err)
		}
	}
}
