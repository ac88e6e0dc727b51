package hal

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A Watcher is the task that watches a board's buttons and tells its handler
// what the hand did. It does not close the board.
type Watcher struct {
	board  *Board
	handle func(Event)
	log    *slog.Logger
	ready  chan struct{}
}

// NewWatcher returns a task for the buttons of board under board.Rules. handle
// is called from Run, one event at a time and in order; while it works, edges
// wait with their own times, so that slowness does not lengthen a press. A nil
// log is silent.
func NewWatcher(board *Board, handle func(Event), log *slog.Logger) *Watcher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Watcher{board: board, handle: handle, log: log, ready: make(chan struct{})}
}

func (w *Watcher) String() string { return "buttons" }

// Ready is closed once every button has told its level: from then on a press counts.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// edgeOf is an edge with the name of its button, or the news that it is gone.
type edgeOf struct {
	button string
	edge   Edge
	gone   bool
}

// Run watches until ctx ends and returns nil. It may be called once. A button
// that is gone is logged; the others stay watched.
func (w *Watcher) Run(ctx context.Context) error {
	var forwarders sync.WaitGroup
	defer forwarders.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	edges := make(chan edgeOf, 4*len(w.board.Buttons))
	for name, button := range w.board.Buttons {
		forwarders.Go(func() { forward(ctx, name, button, edges) })
	}
	w.watch(ctx, edges)
	return nil
}

// forward passes one button's edges on, until the button or ctx ends.
func forward(ctx context.Context, name string, button Button, to chan<- edgeOf) {
	for {
		var next edgeOf
		select {
		case e, ok := <-button.Edges():
			next = edgeOf{button: name, edge: e, gone: !ok}
		case <-ctx.Done():
			return
		}
		select {
		case to <- next:
		case <-ctx.Done():
			return
		}
		if next.gone {
			return
		}
	}
}

func (w *Watcher) watch(ctx context.Context, edges <-chan edgeOf) {
	recogniser := NewRecogniser(w.board.Rules())
	silent := make(map[string]bool) // buttons that have told nothing yet
	for name := range w.board.Buttons {
		silent[name] = true
	}
	take := func(e edgeOf) {
		w.tell(recogniser, e)
		if silent[e.button] {
			delete(silent, e.button)
			w.readyOnce(silent)
		}
	}
	w.readyOnce(silent)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if at, ok := recogniser.Next(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case e := <-edges:
			take(e)
		case <-timer.C:
			// Edges that are older than now come first, or a press would be
			// judged by what was heard of it in time.
			for len(edges) > 0 {
				take(<-edges)
			}
			w.handleAll(recogniser.Advance(time.Now()))
		}
	}
}

func (w *Watcher) readyOnce(silent map[string]bool) {
	if len(silent) == 0 {
		select {
		case <-w.ready:
		default:
			close(w.ready)
		}
	}
}

func (w *Watcher) tell(r *Recogniser, e edgeOf) {
	now := time.Now()
	if e.gone {
		w.log.Warn("button is gone", "button", e.button, "line", w.board.Buttons[e.button].String())
		w.handleAll(r.Lost(e.button, now))
		return
	}
	if e.edge.At.After(now) { // a driver's conversion may be a little ahead
		e.edge.At = now
	}
	w.handleAll(r.Edge(e.button, e.edge))
}

func (w *Watcher) handleAll(events []Event) {
	for _, e := range events {
		w.log.Debug("button", "event", e.String())
		w.handle(e)
	}
}
