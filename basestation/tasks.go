package basestation

import (
	"context"
	"sync"
)

// tasks are what the loop does not wait for: at most maxTasks at once.
type tasks struct {
	mu      sync.Mutex
	ctx     context.Context // of Run; nil: not running
	count   int
	stopped bool
	running sync.WaitGroup
}

func (t *tasks) begin(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx = ctx
}

// start runs a task on a goroutine of its own; false when too many are running.
func (t *tasks) start(task func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil || t.stopped || t.count >= maxTasks {
		return false
	}
	t.count++
	ctx := t.ctx
	t.running.Go(func() {
		defer t.end()
		task(ctx)
	})
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
}

// stop starts no more and waits for those that run, whose context has ended.
func (t *tasks) stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.running.Wait()
}
