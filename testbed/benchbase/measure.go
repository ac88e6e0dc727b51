package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"
)

// Goals, of docs/benchmark.md.
const (
	goalAttach    = 450 * time.Microsecond
	goalResident  = 2 << 20 // KiB
	goalIntroduce = 20 * time.Millisecond
)

func measure(ctx context.Context, s *settings) error {
	dir, err := os.MkdirTemp("", "benchbase")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st, err := start(s, dir)
	if err != nil {
		return err
	}
	defer st.stop()
	f, err := newFleet(st, s.ports, s.interval)
	if err != nil {
		return err
	}
	defer f.close()
	fmt.Printf("%d CPUs, %s/%s, %s; the generator runs on them too\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())

	// The first one waits until the basestation serves, and pays for it.
	if err := f.grow(ctx, 1, 1, 0); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	f.done.Go(func() { f.tend(ctx) })
	defer stop()
	empty, _ := st.memory()
	fmt.Printf("%-42s %10.1f MiB\n", "resident without devices", mib(empty))
	begin := time.Now()
	cpu := st.cpu()
	asked := false
	for _, count := range s.counts {
		before := f.attached.Load()
		if err := f.grow(ctx, count, s.window, 0); err != nil {
			return err
		}
		if f.attached.Load() >= int64(s.cost) && before < int64(s.cost) {
			n := float64(f.attached.Load() - 1)
			took, used := time.Since(begin), st.cpu()-cpu
			each := time.Duration(float64(used) / n)
			fmt.Printf("%-42s %10.0f µs of CPU, %.0f a second; goal at most %d µs: %s\n",
				fmt.Sprintf("an attach, of %d", int(n)), each.Seconds()*1e6, n/took.Seconds(), goalAttach.Microseconds(), reached(each <= goalAttach))
		}
		f.rest(ctx)
		now, peak := st.memory()
		fmt.Printf("%-42s %10.1f MiB, %.0f bytes each; at most so far %.1f MiB\n",
			fmt.Sprintf("resident with %d devices", count), mib(now), float64(now-empty)*1024/float64(count), mib(peak))
		if !asked && f.attached.Load() >= int64(s.cost) && s.asking > 0 {
			asked = true
			if err := f.introductions(ctx, s); err != nil {
				return err
			}
		}
	}
	return f.hold(ctx, s.hold)
}

// rest lets what is written behind be written, and what is garbage be collected,
// as far as the runtime does so by itself.
func (f *fleet) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
	}
}

// hold keeps all alive for a while.
func (f *fleet) hold(ctx context.Context, d time.Duration) error {
	select { // a round later all that was sent is answered
	case <-ctx.Done():
	case <-time.After(2 * tendEvery):
	}
	begin, cpu, pongs, late := time.Now(), f.station.cpu(), f.pongs.Load(), f.late.Load()
	most, least := 0, int(f.attached.Load())
	for time.Since(begin) < d {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Second):
		}
		now, _ := f.station.memory()
		most, least = max(most, now), min(least, int(f.alive.Load()))
	}
	took := time.Since(begin)
	used := f.station.cpu() - cpu
	total := f.attached.Load()
	fmt.Printf("%-42s %10.1f MiB at most; goal for a million at most %d: %s\n", fmt.Sprintf("%d kept alive for %v, every %v", total, took.Round(time.Second), f.interval), mib(most), goalResident>>10, reached(most <= goalResident))
	fmt.Printf("%-42s %10d at least; %d keep-alives answered (%.0f a second), %d not in time\n", "of them heard within their interval", least, f.pongs.Load()-pongs, float64(f.pongs.Load()-pongs)/took.Seconds(), f.late.Load()-late)
	fmt.Printf("%-42s %10.1f %% of one core\n", "CPU of the basestation meanwhile", 100*used.Seconds()/took.Seconds())
	fmt.Printf("%-42s %10d and %d packets for devices that the basestation had forgotten\n", "attempts that had to be made again", f.failed.Load(), f.strange.Load())
	return nil
}

func mib(kib int) float64 { return float64(kib) / 1024 }

func reached(ok bool) string {
	if ok {
		return "reached"
	}
	return "not reached"
}
