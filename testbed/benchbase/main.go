// Command benchbase measures a basestation: it starts a real keyhole-basestation and
// is a fleet of simulated devices to it, over loopback, by the whole protocol.
//
//	2,048 sockets of 127.16.0.0/12, some hundred devices on each ─ UDP ─ keyhole-basestation
//
// Each device attaches as any does (five packets and the acknowledgements, with a
// key of its own); from then on it is 130 bytes here and keeps itself alive. What is printed of the basestation is what the kernel says of its
// process: CPU time, resident memory. Nothing passes or fails by time; the goals are
// printed beside what was reached.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	bin      string // keyhole-basestation; empty: the same in a process of this program
	store    string // without bin: nats or mem
	counts   []int  // devices at which memory is weighed, upwards
	cost     int    // devices whose attaches are measured
	hold     time.Duration
	interval time.Duration
	ports    int
	window   int     // attaches under way at once
	asks     float64 // introductions a second
	asking   time.Duration
	load     float64 // attaches a second meanwhile
	profile  string
}

func main() {
	var s settings
	counts := flag.String("devices", "10000,100000,1000000", "numbers of devices at which memory is weighed, upwards")
	flag.StringVar(&s.bin, "bin", "", "keyhole-basestation; empty: the same in a process of this program")
	flag.StringVar(&s.store, "store", "nats", "without -bin: nats or mem")
	flag.IntVar(&s.cost, "cost", 100_000, "devices over which the cost of an attach is measured")
	flag.DurationVar(&s.hold, "hold", 5*time.Minute, "how long all are kept alive")
	flag.DurationVar(&s.interval, "interval", 25*time.Second, "between keep-alives: what a device begins with; it learns up to 115 s")
	flag.IntVar(&s.ports, "ports", 2048, "sockets, each with an address of its own")
	flag.IntVar(&s.window, "window", 64, "attaches under way at once")
	flag.Float64Var(&s.asks, "introductions", 50, "introductions a second")
	flag.DurationVar(&s.asking, "introduce", 30*time.Second, "for how long clients are introduced")
	flag.Float64Var(&s.load, "load", 500, "attaches a second while clients are introduced")
	flag.StringVar(&s.profile, "profile", "", "folder for profiles of the basestation; without -bin")
	quick := flag.Bool("quick", false, "10,000 devices and 20 seconds")
	role := flag.String("role", "", "run as the basestation (used by the program itself)")
	data := flag.String("data", "", "of the role")
	flag.Parse()
	if *quick {
		*counts, s.cost, s.hold, s.asking = "2500,5000,10000", 10_000, 30*time.Second, 5*time.Second
	}
	if err := run(&s, *counts, *role, *data); err != nil {
		fmt.Fprintln(os.Stderr, "benchbase:", err)
		os.Exit(1)
	}
}

func run(s *settings, counts, role, data string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if role != "" {
		return serve(ctx, s, data)
	}
	for text := range strings.SplitSeq(counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || len(s.counts) > 0 && n <= s.counts[len(s.counts)-1] {
			return fmt.Errorf("numbers of devices %q: want them upwards", counts)
		}
		s.counts = append(s.counts, n)
	}
	return measure(ctx, s)
}
