// Command bench measures Keyhole beside what people use instead, all in one
// run and taking turns, so that a busy machine is busy for everyone: what counts
// are the ratios. Everything runs on loopback:
//
//	viewer (this process) -> client side -> device side -> service
//
// Client side, device side and service are processes of their own, so that the
// CPU and the memory of each can be told. Nothing passes or fails by time; the
// goals are printed beside what was reached.
//
// The Keyhole rows run protocol/session and tunnel, which is what keyholed and
// keyhole connect move bytes with, in processes of this program: without the
// access list's decision (under 2 µs), the log line of each tunnel and the
// guard of local web ports. Only the idle memory is that of the real keyholed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Settings say how much is measured.
type settings struct {
	bin      string        // folder of keyholed, for its idle memory; may be missing
	only     []string      // names of contenders; empty: all
	reps     int           // turns
	bulk     time.Duration // of one transfer
	connects int           // one after the other
	storm    time.Duration // of 50 at once
	echoes   int           // round trips
	idle     []int         // tunnels held
	json     bool
	relay    bool     // compare our relay with HAProxy in its place
	measure  []string // bulk, connect, storm, echo, memory; empty: all
}

func main() {
	s := settings{}
	role := flag.String("role", "", "run as one side of a contender (used by the program itself)")
	target := flag.String("target", "", "address that the role connects to")
	extra := flag.String("extra", "", "what else the role needs")
	only := flag.String("only", "", "comma-separated names of contenders")
	full := flag.Bool("full", false, "more turns and longer ones: about 15 minutes instead of 3")
	measure := flag.String("measure", "", "comma-separated parts: bulk, connect, storm, echo, memory; empty: all")
	turns := flag.Int("turns", 0, "turns of each contender; 0: 3, or 9 with -full")
	flag.StringVar(&s.bin, "bin", "", "folder with a built keyholed, to measure its idle memory")
	flag.BoolVar(&s.json, "json", false, "print the measurements as JSON")
	flag.BoolVar(&s.relay, "relay", false, "compare our relay with HAProxy in its place, instead of whole tunnels with others")
	flag.Parse()
	if *role != "" {
		if err := play(*role, *target, *extra); err != nil {
			fmt.Fprintln(os.Stderr, *role+":", err)
			os.Exit(1)
		}
		return
	}
	s.reps, s.bulk, s.connects, s.storm, s.echoes, s.idle = 3, 800*time.Millisecond, 60, 600*time.Millisecond, 500, []int{100, 1000}
	if s.relay { // CPU is told in steps of 10 ms
		s.reps, s.bulk, s.measure = 5, 2*time.Second, []string{"bulk", "echo", "memory"}
	}
	if *full {
		s.reps, s.bulk, s.connects, s.storm, s.echoes = 9, 3*time.Second, 300, 2*time.Second, 5000
	}
	if *turns > 0 {
		s.reps = *turns
	}
	if *measure != "" {
		s.measure = strings.Split(*measure, ",")
	}
	if *only != "" {
		s.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "\nbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{settings: s, dir: dir}
	defer b.stop()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	// Memory first: storms leave freed stacks and tables behind that would hide
	// what a tunnel costs.
	for _, c := range b.contenders {
		if !b.measures("memory") {
			break
		}
		fmt.Fprintf(os.Stderr, "\r\033[Kmemory: %-36s", c.name)
		if err := b.memory(ctx, c); err != nil {
			return fmt.Errorf("memory of %s: %w", c.name, err)
		}
	}
	for turn := range s.reps {
		for _, c := range b.contenders {
			fmt.Fprintf(os.Stderr, "\r\033[Kturn %d of %d: %-28s", turn+1, s.reps, c.name)
			if err := b.turn(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	sum := b.summary(ctx)
	if s.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(sum)
	}
	sum.print(os.Stdout)
	return nil
}

// wanted says whether a contender takes part.
func (s settings) wanted(name string) bool {
	return len(s.only) == 0 || slices.Contains(s.only, name)
}

// measures says whether a part is measured.
func (s settings) measures(part string) bool {
	return len(s.measure) == 0 || slices.Contains(s.measure, part)
}
