package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// A Task is a long-lived part of the process. Run blocks until ctx ends (then
// it returns nil) or the task cannot go on. Ready is closed when the task does
// its job. String names it in logs and in systemd's status line.
type Task interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	String() string
}

// runTasks runs all tasks until ctx ends or one fails, then ends the others and
// waits for them. waiting is told in words what is not ready yet, and at last
// "" when everything is.
func runTasks(ctx context.Context, tasks []Task, waiting func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(tasks))
	for i, t := range tasks {
		wg.Go(func() {
			defer cancel() // a task that ends takes the others with it
			if err := t.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs[i] = fmt.Errorf("%s: %w", t, err)
			}
		})
	}
	awaitReady(ctx, tasks, waiting)
	wg.Wait()
	return errors.Join(errs...)
}

func awaitReady(ctx context.Context, tasks []Task, waiting func(string)) {
	for i, t := range tasks {
		select {
		case <-t.Ready():
			continue
		default:
		}
		names := make([]string, 0, len(tasks)-i)
		for _, later := range tasks[i:] {
			select {
			case <-later.Ready():
			default:
				names = append(names, later.String())
			}
		}
		waiting("waiting for " + strings.Join(names, ", "))
		select {
		case <-t.Ready():
		case <-ctx.Done():
			return
		}
	}
	waiting("")
}

// task makes a Task of a function that says itself when it is ready.
type task struct {
	name  string
	run   func(ctx context.Context, ready func()) error
	ready chan struct{}
}

func newTask(name string, run func(ctx context.Context, ready func()) error) *task {
	return &task{name: name, run: run, ready: make(chan struct{})}
}

func (t *task) Run(ctx context.Context) error {
	return t.run(ctx, sync.OnceFunc(func() { close(t.ready) }))
}

func (t *task) Ready() <-chan struct{} { return t.ready }
func (t *task) String() string         { return t.name }
