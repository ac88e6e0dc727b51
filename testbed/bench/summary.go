package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// summary is what is printed, as a table or as JSON.
type summary struct {
	Machine    string
	Turns      int
	Contenders []row
	Goals      []goal
	Missing    []string `json:",omitempty"`
}

// row is the medians of one contender. Ratio is to raw crypto/tls in the same
// turn.
type row struct {
	Name      string
	One       transfer
	OneRatio  float64
	Eight     transfer
	Connect50 float64 // ms
	Connect99 float64 // ms
	Rate      float64 // a second
	Echo      float64 // ms
	IdleKiB   [2]int  // resident memory of the device side before any tunnel: all, anonymous
	Held      []holding
}

// goal is one that was set, with what was reached.
type goal struct {
	What    string
	Want    string
	Got     float64
	Reached bool
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// over is the median of a figure of each turn.
func (c *contender) over(figure func(result) float64) float64 {
	var all []float64
	for _, r := range c.results {
		all = append(all, figure(r))
	}
	return median(all)
}

// ratio is the median of the figure's ratio to another contender's of the same
// turn.
func (c *contender) ratio(to *contender, figure func(result) float64) float64 {
	if to == nil {
		return 0
	}
	var all []float64
	for i := range min(len(c.results), len(to.results)) {
		all = append(all, figure(c.results[i])/figure(to.results[i]))
	}
	return median(all)
}

func (b *bench) find(name string) *contender {
	for _, c := range b.contenders {
		if c.name == name {
			return c
		}
	}
	return nil
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }

func (c *contender) transfer(of func(result) transfer) transfer {
	return transfer{
		c.over(func(r result) float64 { return of(r).MBs }),
		c.over(func(r result) float64 { return of(r).Device }),
		c.over(func(r result) float64 { return of(r).Client }),
		c.over(func(r result) float64 { return of(r).Relay }),
	}
}

func (b *bench) summary(ctx context.Context) summary {
	s := summary{Machine: fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()), Turns: b.reps, Missing: b.missing}
	raw := b.find(rawTLS)
	for _, c := range b.contenders {
		s.Contenders = append(s.Contenders, row{
			Name:      c.name,
			One:       c.transfer(func(r result) transfer { return r.One }),
			OneRatio:  c.ratio(raw, func(r result) float64 { return r.One.MBs }),
			Eight:     c.transfer(func(r result) transfer { return r.Eight }),
			Connect50: c.over(func(r result) float64 { return millis(r.Connect50) }),
			Connect99: c.over(func(r result) float64 { return millis(r.Connect99) }),
			Rate:      c.over(func(r result) float64 { return r.Rate }),
			Echo:      c.over(func(r result) float64 { return millis(r.Echo) }),
			IdleKiB:   c.idle,
			Held:      c.held,
		})
	}
	if b.relay {
		s.Goals = b.relayGoals()
	} else {
		s.Goals = append(b.pathGoals(), b.programGoals(ctx)...)
	}
	return s
}

type goalList []goal

func (g *goalList) least(what string, want, got float64) {
	*g = append(*g, goal{what, fmt.Sprintf("at least %.4g", want), got, got >= want})
}

func (g *goalList) most(what string, want, got float64) {
	*g = append(*g, goal{what, fmt.Sprintf("at most %.4g", want), got, got <= want})
}

func (b *bench) pathGoals() []goal {
	var goals goalList
	least, most := goals.least, goals.most
	if own, raw := b.find(ownTCP), b.find(rawTLS); own != nil && raw != nil {
		least("bulk, one tunnel, x raw TLS", 1.05, own.ratio(raw, func(r result) float64 { return r.One.MBs }))
		least("bulk, eight tunnels, x raw TLS", 1.05, own.ratio(raw, func(r result) float64 { return r.Eight.MBs }))
		most("device CPU per GB, x raw TLS", 0.85, own.ratio(raw, func(r result) float64 { return r.One.Device }))
		most("connect and one byte, p50, x fresh handshake", 0.3, own.ratio(raw, func(r result) float64 { return float64(r.Connect50) }))
		least("rate of 50 at once, x fresh handshakes", 3, own.ratio(raw, func(r result) float64 { return r.Rate }))
		for _, h := range own.held {
			most(fmt.Sprintf("KiB per idle tunnel, of %d", h.Tunnels), 30, h.PerTunnel)
		}
	}
	if own, raw := b.find(ownQUIC), b.find(rawQUIC); own != nil && raw != nil {
		least("QUIC: bulk, one tunnel, x raw quic-go", 1, own.ratio(raw, func(r result) float64 { return r.One.MBs }))
		least("QUIC: bulk, eight tunnels, x raw quic-go", 1, own.ratio(raw, func(r result) float64 { return r.Eight.MBs }))
	}
	return goals
}

// programGoals build the programs for a board and weigh them, and the running
// daemon where a built one is at hand.
func (b *bench) programGoals(ctx context.Context) []goal {
	var goals []goal
	for _, p := range []struct {
		name string
		most float64
	}{{"keyholed", 14e6}, {"keyhole", 16e6}} {
		out := filepath.Join(b.dir, p.name)
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./cmd/"+p.name)
		build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			b.missing = append(b.missing, fmt.Sprintf("%s for linux/arm64: %v: %.200s", p.name, err, said))
			continue
		}
		if info, err := os.Stat(out); err == nil {
			mb := float64(info.Size()) / 1e6
			goals = append(goals, goal{p.name + ", stripped linux/arm64, MB", fmt.Sprintf("at most %.0f", p.most/1e6), mb, mb <= p.most/1e6})
		}
	}
	if kib := b.daemonIdle(ctx); kib > 0 {
		mib := float64(kib) / 1024
		goals = append(goals, goal{"resident memory of idle keyholed, MiB", "at most 20", mib, mib <= 20})
	}
	return goals
}

func (s summary) print(out io.Writer) {
	fmt.Fprintf(out, "%s; medians of %d turns; CPU in seconds per GB (10^9 bytes)\n\n", s.Machine, s.Turns)
	if s.relayed() {
		s.printRelay(out)
	} else {
		s.printTunnels(out)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range s.Goals {
		word := "not reached"
		if g.Reached {
			word = "reached"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\n", g.What, g.Got, g.Want, word)
	}
	w.Flush()
	for _, m := range s.Missing {
		fmt.Fprintln(out, "left out:", m)
	}
}

// relayed reports whether the rows have something between device and client.
func (s summary) relayed() bool {
	return len(s.Contenders) > 0 && s.Contenders[0].One.Relay+s.Contenders[0].Eight.Relay > 0
}

func (s summary) printRelay(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t1 tunnel\tCPU\tCPU\tCPU\t8 tunnels\tCPU\tCPU\tCPU\t64 B\trelay\t")
	for range s.held() {
		fmt.Fprint(w, "KiB per tunnel\t")
	}
	fmt.Fprint(w, "\n\tMB/s\trelay\tdevice\tclient\tMB/s\trelay\tdevice\tclient\tms\tMiB\t")
	for _, n := range s.held() {
		fmt.Fprintf(w, "of %d\t", n)
	}
	fmt.Fprintln(w)
	for _, r := range s.Contenders {
		fmt.Fprintf(w, "%s\t%.0f\t%.3f\t%.2f\t%.2f\t%.0f\t%.3f\t%.2f\t%.2f\t%.3f\t%.1f\t", r.Name,
			r.One.MBs, r.One.Relay, r.One.Device, r.One.Client, r.Eight.MBs, r.Eight.Relay, r.Eight.Device, r.Eight.Client,
			r.Echo, float64(r.IdleKiB[0])/1024)
		for _, h := range r.Held {
			fmt.Fprintf(w, "%.1f\t", h.PerTunnel)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func (s summary) printTunnels(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t1 tunnel\t\tCPU\tCPU\t8 tunnels\tCPU\tCPU\tconnect + 1 byte\t\t50 at once\t64 B\tidle\t")
	for range s.held() {
		fmt.Fprint(w, "KiB per tunnel\t")
	}
	fmt.Fprint(w, "\n\tMB/s\tx raw TLS\tdevice\tclient\tMB/s\tdevice\tclient\tp50 ms\tp99 ms\ta second\tms\tMiB\t")
	for _, n := range s.held() {
		fmt.Fprintf(w, "of %d\t", n)
	}
	fmt.Fprintln(w)
	for _, r := range s.Contenders {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.3f\t%.1f\t", r.Name,
			r.One.MBs, r.OneRatio, r.One.Device, r.One.Client, r.Eight.MBs, r.Eight.Device, r.Eight.Client,
			r.Connect50, r.Connect99, r.Rate, r.Echo, float64(r.IdleKiB[0])/1024)
		for _, h := range r.Held {
			fmt.Fprintf(w, "%.1f\t", h.PerTunnel)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// held are the numbers of idle tunnels that were weighed.
func (s summary) held() (numbers []int) {
	if len(s.Contenders) > 0 {
		for _, h := range s.Contenders[0].Held {
			numbers = append(numbers, h.Tunnels)
		}
	}
	return numbers
}
